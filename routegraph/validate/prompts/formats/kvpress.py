"""What kvpress's evaluation reads (its data sets as parquet, JSONL or CSV), and a word on what it writes."""

from __future__ import annotations

from routegraph.validate.prompts.fields import Prompt
from routegraph.validate.prompts.formats import longbench
from routegraph.validate.prompts.formats.base import PromptsFile, Row, Table, collect, format_, make_prompt
from routegraph.validate.prompts.formats.values import golds, text

#: Graders of the data sets that kvpress scores by their own rules, by the first word of the task.
_RULER = {"niah": "all_of", "vt": "all_of", "cwe": "all_of", "fwe": "all_of", "qa": "any_of"}


@format_("kvpress")
def kvpress(table: Table) -> PromptsFile | None:
    """Read data sets of kvpress's evaluation: context, question, answer_prefix, max_new_tokens, answer(s) or needle.

    Columns after https://github.com/NVIDIA/kvpress, evaluation/benchmarks/*/create_huggingface_dataset.py.
    """
    if table.has("predicted_answer") and not table.has("context"):
        raise ValueError(
            f"{table.name} is what kvpress's evaluation writes (predictions.csv): it has the replies and no column "
            "'context', so nothing can be asked again; give the data set that it was made from"
        )
    if not table.has("context", "question", "answer_prefix") or not table.has("max_new_tokens"):
        return None
    if not set(table.columns) & {"answer", "answers", "needle"}:
        return None
    notes = longbench.scoring_notes(_task(row) for _, row in table.rows if "all_classes" in row)
    if table.has("needle") and not {"answer", "answers"} & set(table.columns):
        notes.append("needles are graded by f1; kvpress scores them by ROUGE, so do not compare the two")
    return collect(table, "kvpress", _read, notes)


def _task(row: Row) -> str:
    return text(row.get("task"), "task").strip()


def _read(number: int, row: Row) -> Prompt:
    task = _task(row)
    context = text(row["context"], "context")
    evidence: list[tuple[int, int]] = []
    answer, grader, choices = row.get("answer", row.get("answers")), "", []
    if "all_classes" in row:  # LongBench
        answer, choices = longbench.answers(task, row.get("answers")), golds(row["all_classes"])
        grader = longbench.grader(task)
    elif "choice_A" in row:  # LongBench v2, whose questions hold the choices already
        choices = [text(row.get(f"choice_{letter}"), f"choice_{letter}") for letter in "ABCD"]
        grader = "choice"
    elif isinstance(answer, list) or str(answer).lstrip()[:1] == "[":
        grader = _RULER.get(task.split("_")[0], "")
    elif "needle" in row:
        needle = text(row["needle"], "needle").strip()
        start = context.find(needle)
        if not needle or start < 0:
            raise ValueError("its needle is not in its context: kvpress puts it there when it runs")
        # The reply goes on from the prefix, which is how the needle starts.
        prefix = text(row["answer_prefix"], "answer_prefix").strip()
        answer = [needle.removeprefix(prefix).strip(), needle] if prefix != needle else needle
        grader, evidence = "f1", [(start, start + len(needle))]
    return make_prompt(
        number,
        id=row.get("id", row.get("_id")),
        context=context,
        question=row["question"],
        answer=answer,
        answer_prefix=row["answer_prefix"],
        choices=choices,
        evidence=evidence,
        task=task,
        grader=grader,
    )
