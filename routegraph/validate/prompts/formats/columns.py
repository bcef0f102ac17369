"""Plain tables with named columns: CSV, JSON, JSONL or parquet with a context, a question and an answer."""

from __future__ import annotations

from routegraph.validate.prompts.fields import Prompt
from routegraph.validate.prompts.formats.base import PromptsFile, Row, Table, collect, format_, make_prompt
from routegraph.validate.prompts.formats.values import golds, is_missing

#: Names of columns by what they hold: the first ones are plain, the others taken only where none of those is there.
NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "context": (
        ("context", "passage", "document"),
        ("article", "text", "story", "paragraph", "source", "body"),
    ),
    "question": (("question", "query"), ("input", "prompt", "instruction", "problem")),
    "answer": (
        ("answer", "answers"),
        ("gold", "target", "reference", "output", "outputs", "expected", "label"),
    ),
}
_IDS = ("id", "_id", "qid", "question_id", "doc_id")
_FALSE = ("false", "no", "0")


def find_column(kind: str, columns: tuple[str, ...]) -> str | None:
    """Return the column that holds a prompt's context, question or answer, None where no name tells.

    Capitals do not count. `answer` goes before `answers`.

    Raises
    ------
    ValueError
        If two columns may be it.
    """
    for names in NAMES[kind]:
        found = [column for column in columns if column.strip().casefold() in names]
        if kind == "answer" and len(found) == 2 and {c.casefold() for c in found} == {"answer", "answers"}:
            return next(column for column in found if column.casefold() == "answer")
        if len(found) > 1:
            listed = " and ".join(map(repr, found))
            raise ValueError(f"{listed} may each be the {kind}; rename or drop all but one")
        if found:
            return found[0]
    return None


@format_("columns")
def columns(table: Table) -> PromptsFile | None:
    """Read tables with named columns (CSV, JSON, JSONL, parquet): a context, a question, an answer."""
    if not table.rows:
        return None
    try:
        named = {kind: find_column(kind, table.columns) for kind in NAMES}
    except ValueError as error:
        raise ValueError(f"{table.name}: columns {error}") from None
    if None in named.values():
        return None
    said = [f"{kind} is read from column {name!r}" for kind, name in named.items() if name != kind]
    lowered = {column.casefold(): column for column in table.columns}
    id_column = next((lowered[one] for one in _IDS if one in lowered), None)

    def read(number: int, row: Row) -> Prompt:
        def cell(name: str) -> object:
            return row.get(lowered.get(name, name))

        answer = [row.get(named["answer"] or "")]
        if named["answer"] == lowered.get("answer") and "answers" in lowered:
            answer.append(cell("answers"))
        return make_prompt(
            number,
            id=row.get(id_column) if id_column else None,
            context=row.get(named["context"] or ""),
            question=row.get(named["question"] or ""),
            answer=[gold for one in answer for gold in golds(one)],
            answer_prefix=cell("answer_prefix"),
            answerable=str(cell("answerable")).strip().casefold() not in _FALSE,
            choices=[] if is_missing(cell("choices")) else golds(cell("choices")),
            task=cell("task"),
            grader=str(cell("grader") or "").strip(),
        )

    return collect(table, "columns", read, said)
