"""A prompt as tokens: its context, what is asked after it, and the answer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.models.load import Loaded, quiet
from routegraph.validate.prompts.asking import PLAIN, Asks, Frame, frame
from routegraph.validate.prompts.prompt import Prompt, Span

Ids = NDArray[np.int64]


class UnfitPromptError(ValueError):
    """A prompt that cannot be asked, or not of this model: it is set aside, and others are measured all the same."""


@contextmanager
def unfit(lead: str = "") -> Iterator[None]:
    """Raise what is wrong with a prompt, a ValueError, as an `UnfitPromptError`."""
    try:
        yield
    except ValueError as error:
        raise UnfitPromptError(f"{lead}{error}") from None


class SetAsideWarning(UserWarning):
    """Some prompts are not asked; it says which, and why."""


def tell_set_aside(aside: Sequence[tuple[str, str]], asked: int) -> None:
    """Warn of prompts, as (id, reason), that were set aside of so many; ValueError where none is left."""
    if len(aside) == asked:
        more = f" (and {len(aside) - 1} others are set aside as well)" if len(aside) > 1 else ""
        raise ValueError(aside[0][1] + more)
    if aside:
        warnings.warn(set_aside(aside, asked), SetAsideWarning, stacklevel=3)


def set_aside(aside: Sequence[tuple[str, str]], asked: int) -> str:
    """Say which of so many prompts, as (id, reason), were set aside: the first and why, nine more by name."""
    others = f"; also {', '.join(name for name, _ in aside[1:10])}" if len(aside) > 1 else ""
    rest = f" and {len(aside) - 10} more" if len(aside) > 10 else ""
    return f"{len(aside)} of {asked} prompts set aside: {aside[0][1]}{others}{rest}"


@dataclass(frozen=True, eq=False)
class Context:
    """What is prefilled before anything is evicted, as tokens.

    Attributes
    ----------
    text : str
    token_ids : int64[n]
    offsets : int64[n, 2]
        Characters [start, end) of `text` that each token stands for.
    question : int64[...] or None
        Positions of the question's tokens; None: the question was not there yet.
    start : int
        Where in `text` the prompt's own context begins: behind what a chat template puts first.
    """

    text: str
    token_ids: Ids
    offsets: NDArray[np.int64]
    question: Ids | None = None
    start: int = 0

    def positions(self, spans: Sequence[Span]) -> NDArray[np.int64]:
        """Return the positions of the tokens of spans of the prompt's context; see `tokens_in`."""
        moved = [(self.start + start, self.start + end) for start, end in spans]
        return tokens_in(self.text, self.offsets, moved)


@dataclass(frozen=True, eq=False)
class Asked:
    """A prompt as tokens.

    Attributes
    ----------
    text : str
        Of the context.
    context : int64[n_context]
        As `extract` tokenises it.
    offsets : int64[n_context, 2]
        Characters [start, end) of `text` that each token of the context stands for.
    question : int64[n_question]
        Question and how the answer begins, tokenised apart from the context, so that the context's tokens stay.
    answer : int64[n_answer]
        The expected answer as the reply goes on; empty where the prompt has none.
    start : int
        See `Context`.
    """

    text: str
    context: Ids
    offsets: NDArray[np.int64]
    question: Ids
    answer: Ids
    start: int = 0

    def positions(self, spans: Sequence[Span]) -> NDArray[np.int64]:
        """Return the positions of the tokens of spans of the prompt's context; see `tokens_in`."""
        return Context(self.text, self.context, self.offsets, None, self.start).positions(spans)


def read_context(model: Loaded, prompt: Prompt, asks: Asks = PLAIN) -> Context:
    r"""Tokenise what is prefilled: the context, and the question after it where scoring may know it.

    The question is tokenised apart, so that the tokens of the context are the same either way. In a chat the
    context begins with what the template puts first, and ends with the white space before the question, which
    many vocabularies join to the full stop before it.

    Raises
    ------
    UnfitPromptError
        If there is no question to be aware of.
    """
    chat = asks.chats(model)
    around = frame(model, asks.system) if chat else Frame("", "", False)
    own = prompt.context.lstrip() if around.strips else prompt.context
    asked = asks.asked_text(prompt, chat)
    lead = asked[: len(asked) - len(asked.lstrip())] if chat else ""
    text = f"{around.head}{own}{lead}"
    start = len(around.head) - (len(prompt.context) - len(own))
    with quiet():
        read = model.tokenizer(text, return_offsets_mapping=True, add_special_tokens=not chat)
    ids, offsets = _ids(read["input_ids"]), _ids(read["offset_mapping"]).reshape(-1, 2)
    while len(ids) and ids[-1] == model.tokenizer.eos_token_id and not offsets[-1].any():
        ids, offsets = ids[:-1], offsets[:-1]  # a tokenizer that ends each text: this one goes on
    if not asks.question_aware:
        return Context(text, ids, offsets, None, start)
    if not asked:
        raise UnfitPromptError(f"prompt {prompt.id!r} has no question, which question-aware scoring needs")
    more = asked[len(lead) :] + lead
    with quiet():
        added = model.tokenizer(more, add_special_tokens=False, return_offsets_mapping=True)
    moved = _ids(added["offset_mapping"]).reshape(-1, 2) + len(text)
    return Context(
        text + more,
        np.concatenate([ids, _ids(added["input_ids"])]),
        np.concatenate([offsets, moved]),
        np.arange(len(ids), len(ids) + len(moved)),
        start,
    )


def tokenise(model: Loaded, prompt: Prompt, asks: Asks = PLAIN) -> Asked:
    r"""Tokenise a prompt: its context, then what is asked of it and how the reply begins, then the answer.

    As a text to go on with: "\nQuestion: <question>\n<answer prefix>"; in a chat: the question, and what the
    template puts between it and the reply. Question-aware, the question stands in the context, too.

    Raises
    ------
    UnfitPromptError
        If the prompt asks nothing: neither question nor answer prefix.
    """
    if not (prompt.question.strip() or prompt.answer_prefix.strip()):
        raise UnfitPromptError(
            f"prompt {prompt.id!r} asks nothing: it has neither question nor answer prefix"
        )
    chat = asks.chats(model)
    context = read_context(model, prompt, asks)
    question, begins = asks.asked_text(prompt, chat), asks.answer_prefix(prompt, chat)
    if chat:
        around = frame(model, asks.system)
        text = (question.strip() if around.strips else question.lstrip()) + around.tail + begins
    else:
        text = f"{question}\n{begins}"
    given = f" {prompt.answer}" if begins else prompt.answer
    with quiet():
        ids = model.tokenizer.encode(text, add_special_tokens=False)
        whole = model.tokenizer.encode(text + given, add_special_tokens=False)
        answer = whole[len(ids) :]
        if whole[: len(ids)] != ids:  # the last word and the answer share a token
            answer = model.tokenizer.encode(given, add_special_tokens=False)
    answer = answer if prompt.answer.strip() else []
    return Asked(context.text, context.token_ids, context.offsets, _ids(ids), _ids(answer), context.start)


def _ids(numbers: Any) -> Ids:
    return np.array(numbers, dtype=np.int64)


def tokens_in(context: str, offsets: NDArray[np.int64], spans: Sequence[Span]) -> NDArray[np.int64]:
    """Return the sorted positions of the tokens that share a character with a span, int64[...].

    White space does not count: in byte-level vocabularies a word's token holds the space before it, so that the
    token after a span would else reach into it.

    Parameters
    ----------
    context : str
        The text.
    offsets : int64[n, 2]
        Characters [start, end) of each token.
    spans : sequence of (int, int)
        Characters [start, end).
    """
    wanted = np.zeros(len(context), dtype=bool)
    for start, end in spans:
        wanted[start:end] = True
    wanted &= np.array([not character.isspace() for character in context], dtype=bool)
    before = np.concatenate([[0], np.cumsum(wanted)])
    return np.flatnonzero(before[offsets[:, 1]] > before[offsets[:, 0]]).astype(np.int64)
