"""How a prompt is put to a model: as a text to go on with, or through the chat template of its tokenizer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from routegraph.options import check, option
from routegraph.text import one_line

if TYPE_CHECKING:
    from routegraph.validate.models.load import Loaded
    from routegraph.validate.prompts.prompt import Prompt

#: Follows the question in a chat, for the tasks that come with routegraph: half of their contexts do not tell the
#: answer, and a model must be allowed to say so.
INSTRUCTION = "Answer with a few words from the text. If the text does not tell, say: I don't know."
#: These tasks.
INSTRUCTED = frozenset(
    (
        "documents",
        "base",
        "manipulation",
        "multi_presence",
        "multi_entity",
        "long_context",
        "coreference",
        "hops",
    )
)
#: Stands for the question in what is asked.
PLACE = "{question}"

#: In the names of models that go on with texts and were not taught to answer.
_BASE = re.compile(r"(^|[-_.])(base|pt|pretrained)([-_.]|$)", re.IGNORECASE)
#: Stands for the text in a template; no text holds it.
_MARK = "\ue000routegraph\ue000"


@dataclass(frozen=True, kw_only=True)
class Asks:
    """How prompts are put to a model.

    Raises
    ------
    ValueError
        If `chat` or `prefix` is unknown, or `ask` has no place for the question.
    """

    question_aware: bool = option(
        False,
        "Let the policies see the question when they score the context (AWR); by default they do not (AGN). It is "
        "asked after the eviction either way.",
    )
    chat: str = option(
        "auto",
        "Ask through the tokenizer's chat template; auto: where there is one and the model was made for it.",
        choices=("auto", "on", "off"),
    )
    system: str = option(
        "", "System message of the chat; by default what the template says by itself.", metavar="TEXT"
    )
    ask: str = option(
        "",
        "What is put after the context, with {question} for the question; by default 'Question: {question}'.",
        metavar="TEXT",
    )
    prefix: str = option(
        "auto",
        "Begin each reply with the prompt's answer prefix; auto: yes, but in a chat only where there is no question.",
        choices=("auto", "on", "off"),
    )

    def __post_init__(self) -> None:
        check(self)
        if self.ask and PLACE not in self.ask:
            raise ValueError(f"ask must hold {PLACE}, which stands for the question, got {self.ask!r}")

    def chats(self, model: Loaded) -> bool:
        """Return whether a model is asked through its chat template; ValueError where it has none and must."""
        template = bool(getattr(model.tokenizer, "chat_template", None))
        if self.chat == "on" and not template:
            raise ValueError(f"model {model.name!r} has no chat template; choose --chat off or auto")
        if self.system and not (template and self.chat != "off"):
            raise ValueError(
                f"a system message needs a chat template, and model {model.name!r} "
                + ("has none" if not template else "is asked without it: --chat off")
            )
        if self.chat != "auto":
            return self.chat == "on"
        return template and (bool(self.system) or made_for_chat(model))

    def asked_text(self, prompt: Prompt, chat: bool) -> str:
        """Return what follows the context: the question in its words; nothing where there is no question."""
        if not prompt.question.strip():
            return ""
        ask = self.ask or (f"\n\nQuestion: {PLACE}" if chat else f"\nQuestion: {PLACE}")
        if chat and not self.ask and prompt.task in INSTRUCTED:
            ask += f"\n{INSTRUCTION}"
        return ask.replace(PLACE, prompt.question)

    def answer_prefix(self, prompt: Prompt, chat: bool) -> str:
        """Return how the reply is made to begin; nothing where the model begins it."""
        if not chat:
            return (prompt.answer_prefix if self.prefix != "off" else "") or "Answer:"
        wanted = self.prefix == "on" or (self.prefix == "auto" and not prompt.question.strip())
        return prompt.answer_prefix if wanted else ""

    def asking(self, model: Loaded) -> dict[str, Any]:
        """Return what a result keeps of it, as JSON-ready values; what is as it was in earlier versions is left out."""
        chat = self.chats(model)
        told = {"chat": chat, "system": self.system, "ask": self.ask}
        if self.prefix != "auto":
            told["prefix"] = self.prefix
        if self.question_aware:
            told["asked_again"] = True
        return {
            "question_aware": self.question_aware,
            **{name: value for name, value in told.items() if value},
        }


PLAIN = Asks(chat="off")


def made_for_chat(model: Loaded) -> bool:
    """Return whether a model with a chat template is asked through it unless told otherwise.

    Known models say so themselves; of others a name that says "base" means no.
    """
    from routegraph.validate.models.sources import MODELS

    if model.name in MODELS:
        return MODELS[model.name].chat
    return not _BASE.search(model.name)


@dataclass(frozen=True)
class Frame:
    """What a chat template puts around the text of the user: `head` before it, `tail` up to the reply.

    `strips`: the template takes white space off both ends of the text.
    """

    head: str
    tail: str
    strips: bool


def frame(model: Loaded, system: str = "") -> Frame:
    """Return what a model's chat template puts around a text.

    Thinking is switched off, and a date that a template would put in is a fixed one, so that the same prompt is
    the same text every day.

    Raises
    ------
    ValueError
        If the template takes no system message, or changes the text.
    """
    from routegraph.validate.models.quiet import quiet

    messages = [{"role": "system", "content": system}] if system else []

    def render(text: str) -> str:
        with quiet():
            try:
                rendered: str = model.tokenizer.apply_chat_template(
                    [*messages, {"role": "user", "content": text}],
                    tokenize=False,
                    add_generation_prompt=True,
                    enable_thinking=False,
                    date_string="26 Jul 2024",
                )
            except Exception as error:  # templates raise whatever they like
                why = one_line(error, 120)
                raise ValueError(
                    f"the chat template of model {model.name!r} cannot be used"
                    f"{' with a system message' if system else ''}: {why}"
                ) from None
        return rendered

    head, mark, tail = render(_MARK).partition(_MARK)
    if not mark or _MARK in tail:
        raise ValueError(f"the chat template of model {model.name!r} changes the text it is given")
    spaced = render(f" {_MARK} ")
    strips = spaced == head + _MARK + tail
    if not strips and spaced != f"{head} {_MARK} {tail}":
        raise ValueError(f"the chat template of model {model.name!r} changes the text it is given")
    return Frame(head, tail, strips)
