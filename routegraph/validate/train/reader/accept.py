"""What a reader is judged by: replies to measured tasks at ratio 0, answerable prompts and their twins."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from routegraph.validate.models.load import Loaded
from routegraph.validate.prompts.prompt import Prompt, bundled_prompts
from routegraph.validate.prompts.verdict import abstains, normalise
from routegraph.validate.tasks.registry import load_task
from routegraph.validate.tasks.story import UNKNOWN
from routegraph.validate.train.reader.form import chat

#: Share of answerable prompts that must be answered right, and of twins that must be abstained on, in every task.
RIGHT, ABSTAINED = 0.85, 0.8
#: Tokens of a reply at most.
REPLY = 24
#: Prompts of a generated task, twins included; prompts that are answered side by side.
ITEMS, _BATCH = 200, 8

_SENTENCE = re.compile(r"[.!?](?=\s|$)")


@dataclass(frozen=True)
class Row:
    """What a model made of one task.

    Attributes
    ----------
    task : str
    answerable, right, refused : int
        Prompts with an answer, those answered right, and those on which it abstained.
    twins, abstained : int
        Prompts without one, and those on which it abstained.
    """

    task: str
    answerable: int
    right: int
    refused: int
    twins: int
    abstained: int

    @property
    def reached(self) -> bool:
        """Whether both shares are as high as they must be."""
        return self.right >= RIGHT * self.answerable and self.abstained >= ABSTAINED * self.twins

    def cells(self) -> list[str]:
        """Return the row of a table, in the order of `COLUMNS`."""
        return [
            self.task,
            f"{self.answerable}",
            f"{self.right / max(1, self.answerable):.2f}",
            f"{self.refused / max(1, self.answerable):.2f}",
            f"{self.twins}",
            f"{self.abstained / max(1, self.twins):.2f}",
        ]


#: Heads of a table of rows.
COLUMNS = ["task", "answerable", "right", "abstained", "twins", "abstained on twins"]


@dataclass(frozen=True)
class Reading:
    """What a model made of all measured tasks.

    Attributes
    ----------
    rows : tuple of Row
    replies : tuple of dict
        id, question, answer, answerable, reply and whether it is right, one a prompt.
    """

    rows: tuple[Row, ...]
    replies: tuple[dict[str, Any], ...]

    @property
    def reached(self) -> bool:
        """Whether every task is as good as it must be."""
        return all(row.reached for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the rows and the verdict, without the replies."""
        return {"reached": self.reached, "rows": [asdict(row) for row in self.rows]}


def measured(items: int = ITEMS) -> dict[str, list[Prompt]]:
    """Return the prompts that a reader is judged by: the bundled ones with twins, base and multi_presence."""
    bundled = bundled_prompts()[:items]
    return {
        "bundled": [*bundled, *map(twin, bundled)],
        **{name: load_task(name, n=items) for name in ("base", "multi_presence")},
    }


def twin(prompt: Prompt) -> Prompt:
    """Return a prompt without its evidence, so that the right answer is that the text does not tell."""
    context, text = prompt.context, ""
    end = 0
    for start, after in prompt.evidence:
        text += context[end:start]
        end = after + (context[after : after + 1] == " ")
    text = "\n\n".join(part.strip() for part in (text + context[end:]).split("\n\n") if part.strip())
    return replace(
        prompt,
        id=f"{prompt.id}-twin",
        context=text,
        answer=UNKNOWN,
        evidence=(),
        answer_spans=(),
        answerable=False,
    )


def accept(
    model: Loaded,
    tasks: dict[str, list[Prompt]] | None = None,
    report: Callable[[float, float, str], None] | None = None,
) -> Reading:
    """Ask a model the measured tasks and return what it made of them.

    Parameters
    ----------
    model : Loaded
    tasks : dict from name to prompts, optional
        By default `measured()`.
    report : callable, optional
        Called as ``report(done, total, label)``.
    """
    tasks = measured() if tasks is None else tasks
    total, done = sum(map(len, tasks.values())), 0
    rows, replies = [], []
    for name, prompts in tasks.items():
        entries = []
        for start in range(0, len(prompts), _BATCH):
            batch = prompts[start : start + _BATCH]
            entries += [
                _entry(prompt, reply) for prompt, reply in zip(batch, answer(model, batch), strict=True)
            ]
            if report is not None:
                report(done + len(entries), total, name)
        done += len(entries)
        replies += entries
        told = [entry for entry in entries if entry["answerable"]]
        rows.append(
            Row(
                name,
                len(told),
                sum(entry["right"] for entry in told),
                sum(abstains(entry["reply"]) and not entry["right"] for entry in told),
                len(entries) - len(told),
                sum(entry["right"] for entry in entries if not entry["answerable"]),
            )
        )
    return Reading(tuple(rows), tuple(replies))


def is_right(prompt: Prompt, reply: str) -> bool:
    """Return whether the first sentence holds the answer as whole words; of a twin, whether the reply abstains."""
    if not prompt.answerable:
        return abstains(reply)
    line = next((line for line in reply.splitlines() if line.strip()), "").strip()
    sentence = normalise(_SENTENCE.split(line, maxsplit=1)[0])
    return f" {normalise(prompt.answer)} " in f" {sentence} "


def answer(model: Loaded, prompts: Sequence[Prompt]) -> list[str]:
    """Return the greedy replies to some prompts, which are padded on the left and answered side by side."""
    import torch

    asked = [chat(model.tokenizer, prompt.context, prompt.question) for prompt in prompts]
    width = max(map(len, asked))
    pad = model.tokenizer.pad_token_id or 0
    ids = torch.tensor([[pad] * (width - len(one)) + one for one in asked], device=model.model.device)
    mask = torch.tensor(
        [[0] * (width - len(one)) + [1] * len(one) for one in asked], device=model.model.device
    )
    with torch.inference_mode():
        out = model.model.generate(ids, attention_mask=mask, max_new_tokens=REPLY, do_sample=False)
    return [text.strip() for text in model.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)]


def _entry(prompt: Prompt, reply: str) -> dict[str, Any]:
    return {
        "id": prompt.id,
        "question": prompt.question,
        "answer": prompt.answer,
        "answerable": prompt.answerable,
        "reply": reply,
        "right": is_right(prompt, reply),
    }
