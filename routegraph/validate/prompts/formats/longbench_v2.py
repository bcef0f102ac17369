"""LongBench v2: questions with four choices."""

from __future__ import annotations

from routegraph.validate.prompts.fields import Prompt
from routegraph.validate.prompts.formats.base import PromptsFile, Row, Table, collect, format_, make_prompt
from routegraph.validate.prompts.formats.values import text

LETTERS = "ABCD"


@format_("longbench-v2")
def longbench_v2(table: Table) -> PromptsFile | None:
    """Read LongBench v2 (question, choice_A ... choice_D, answer, context), as a JSON list, JSONL or parquet.

    Fields after https://github.com/THUDM/LongBench, README.md; its rule is `extract_answer` of pred.py.
    """
    if not table.has("question", "choice_A", "choice_B", "choice_C", "choice_D", "answer"):
        return None
    if table.has("response", "judge"):
        raise ValueError(
            f"{table.name} holds LongBench v2's results (response, judge), whose contexts are cut to 1,000 characters; "
            "give the data set that they were made from"
        )
    if not table.has("context") or table.has("max_new_tokens"):
        return None
    return collect(table, "longbench-v2", _read)


def _read(number: int, row: Row) -> Prompt:
    choices = [text(row[f"choice_{letter}"], f"choice_{letter}").strip() for letter in LETTERS]
    if not all(choices):
        raise ValueError("one of its choices is empty")
    answer = text(row["answer"], "answer").strip()
    if answer not in [*LETTERS]:
        raise ValueError(f"its answer must be A, B, C or D, got {answer!r}")
    question = text(row["question"], "question").strip()
    listed = "\n".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=True))
    return make_prompt(
        number,
        id=row.get("_id"),
        context=row["context"],
        question=f"{question}\n{listed}" if question else "",
        answer=answer,
        answer_prefix="The correct answer is",
        choices=choices,
        task=text(row.get("domain"), "domain"),
        grader="choice",
    )
