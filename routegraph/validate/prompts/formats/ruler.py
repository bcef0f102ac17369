"""RULER's JSONL: context and question in one text, `input`, and all right answers in `outputs`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from routegraph.validate.prompts.fields import Prompt
from routegraph.validate.prompts.formats.base import PromptsFile, Row, Table, collect, format_, make_prompt
from routegraph.validate.prompts.formats.values import text


@dataclass(frozen=True)
class _Family:
    """Where the question of a family of tasks starts, where its answer prefix does, and how RULER scores it."""

    question: re.Pattern[str]
    prefix: re.Pattern[str]
    grader: str


_ANSWER = re.compile(r"Answer:")
#: Needles, variable tracking, common words, frequent words, and questions on documents.
_FAMILIES = {
    "niah": _Family(
        re.compile(r"What (?:is|are all) the special magic "), re.compile(r"The special magic "), "all_of"
    ),
    "vt": _Family(re.compile(r"Question: Find all variables that are assigned the value"), _ANSWER, "all_of"),
    "cwe": _Family(re.compile(r"Question: What are the \d+ most common words"), _ANSWER, "all_of"),
    "fwe": _Family(re.compile(r"Question: Do not provide any explanation\."), _ANSWER, "all_of"),
    "qa": _Family(re.compile(r"Answer the question based on the given documents\."), _ANSWER, "any_of"),
}


def split(words: str, prefix: str = "") -> tuple[str, str, str, str]:
    """Return family, context, question and answer prefix of a RULER input.

    The question starts where the last phrase stands that opens the questions of a family: tasks with worked examples
    have several. Where no prefix is given it is what follows the question (in files of predictions, and before 2025).

    Raises
    ------
    ValueError
        If the question of no family is found.
    """
    starts = {
        name: found[-1].start()
        for name, one in _FAMILIES.items()
        if (found := [*one.question.finditer(words)])
    }
    if not starts:
        raise ValueError(
            f"its input ends in the question of none of RULER's tasks ({', '.join(_FAMILIES)}): {words[-60:]!r}"
        )
    family = max(starts, key=lambda name: starts[name])
    context, tail = words[: starts[family]], words[starts[family] :]
    if not prefix.strip():
        opens = _FAMILIES[family].prefix.search(tail)
        tail, prefix = (tail[: opens.start()], tail[opens.start() :]) if opens else (tail, "")
    return family, context, tail, prefix


def grader(family: str) -> str:
    """Return by which grader RULER's own score is had: any answer of questions on documents, else all of them."""
    return _FAMILIES[family].grader


@format_("ruler")
def ruler(table: Table) -> PromptsFile | None:
    """Read RULER's JSONL (index, input, outputs, answer_prefix): the question is the tail of the input.

    Fields after https://github.com/NVIDIA/RULER, scripts/data/synthetic/*.py.
    """
    if not table.has("input", "outputs") or "context" in table.columns:
        return None
    return collect(table, "ruler", _read)


def _read(number: int, row: Row) -> Prompt:
    family, context, question, prefix = split(
        text(row["input"], "input"), text(row.get("answer_prefix"), "answer_prefix")
    )
    # No id: `index` is the place of a needle in the text where RULER writes needles, not a number of the row.
    return make_prompt(
        number,
        context=context,
        question=question,
        answer=row["outputs"],
        answer_prefix=prefix,
        task=family,
        grader=grader(family),
    )
