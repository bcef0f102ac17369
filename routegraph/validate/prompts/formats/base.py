"""What readers of formats share: the registry, rows, and prompts made of them or left out with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routegraph.registry import Registry
from routegraph.validate.prompts.fields import Prompt, Span
from routegraph.validate.prompts.formats.values import golds, text

#: Readers by name: functions ``(table) -> PromptsFile``, or None where the content is not of their format.
formats = format_ = Registry("format")

#: Labels that `tokens.tokenise` writes before a question itself.
_LABEL = re.compile(r"^\s*(?:Question|Query)\s*:\s*", re.IGNORECASE)
#: Marks that a chat template leaves in a text.
_CHAT = re.compile(r"<\|[a-z_]+\|>|\[/?INST\]|<start_of_turn>|<end_of_turn>")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """The content of a file before anybody says what it means.

    Attributes
    ----------
    name : str
        Of the file, for messages.
    container : str
        "JSONL", "JSON", "CSV" or "parquet".
    rows : tuple of (int, mapping)
        Rows by their number: line of a JSONL, row of a CSV (its header is row 1), place in a list or parquet from 1.
    broken : tuple of (int, str)
        Rows that could not be read, and why.
    text : str
        All of the file, where it is text.
    document : Any
        What a JSON file holds that is no list of rows.
    """

    name: str
    container: str
    rows: tuple[tuple[int, Row], ...] = ()
    broken: tuple[tuple[int, str], ...] = ()
    text: str = ""
    document: Any = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns of the rows, each once, in the order in which they come."""
        return tuple(dict.fromkeys(name for _, row in self.rows for name in row))

    def has(self, *columns: str) -> bool:
        """Return whether there are rows, and every one has these columns."""
        return bool(self.rows) and all(column in row for _, row in self.rows for column in columns)


@dataclass(frozen=True)
class PromptsFile:
    """What was understood of a file.

    Attributes
    ----------
    format : str
        Name of the reader.
    container : str
        "JSONL", "JSON", "CSV" or "parquet".
    prompts : tuple of Prompt
        In the order of the file.
    skipped : tuple of (int, str)
        Rows that were left out (numbered as in `Table`), and why.
    notes : tuple of str
        What one should know about how it was read.
    name : str
        Of the file.
    """

    format: str
    container: str
    prompts: tuple[Prompt, ...]
    skipped: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()
    name: str = ""

    def skipped_in_words(self, limit: int = 3) -> str:
        """Return in one line how many rows were left out, the first of them and why."""
        total = len(self.prompts) + len(self.skipped)
        told = "; ".join(f"row {row}: {why}" for row, why in self.skipped[:limit])
        more = f"; and {len(self.skipped) - limit} more" if len(self.skipped) > limit else ""
        return f"{self.name}: {len(self.skipped)} of {total} rows are left out ({told}{more})"


def collect(
    table: Table,
    format: str,
    read: Callable[[int, Any], Prompt],
    notes: Iterable[str] = (),
    rows: Sequence[tuple[int, Any]] | None = None,
) -> PromptsFile:
    """Make a prompt of each row; a row of which `read` raises ValueError is left out with what that says.

    Parameters
    ----------
    table : Table
    format : str
        Name of the reader.
    read : callable
        ``read(number, row)`` returns a prompt.
    notes : iterable of str
        Passed on.
    rows : sequence, optional
        By default those of the table.

    Raises
    ------
    ValueError
        If no row can be used; the first reasons are named.
    """
    prompts: list[Prompt] = []
    skipped = list(table.broken)
    seen: dict[str, int] = {}
    for number, row in table.rows if rows is None else rows:
        try:
            prompt = read(number, row)
            if prompt.id in seen:
                raise ValueError(f"its id {prompt.id!r} is that of row {seen[prompt.id]}, too")
        except ValueError as error:
            skipped.append((number, str(error)))
            continue
        seen[prompt.id] = number
        prompts.append(prompt)
    skipped.sort()
    told = list(notes)
    templated = sum(bool(_CHAT.search(prompt.context + prompt.question)) for prompt in prompts)
    if templated:
        told.append(
            f"{templated} of {len(prompts)} prompts hold the marks of a chat template: ask them as they are"
        )
    made = PromptsFile(format, table.container, tuple(prompts), tuple(skipped), tuple(told), table.name)
    if not prompts:
        words = made.skipped_in_words() if skipped else f"{table.name} holds no rows"
        raise ValueError(f"no row can be used as {format}: {words}")
    return made


def make_prompt(
    number: int,
    *,
    context: Any,
    question: Any,
    answer: Any,
    id: Any = None,
    answer_prefix: Any = "",
    answerable: bool = True,
    answer_spans: Sequence[Span] = (),
    evidence: Sequence[Span] = (),
    choices: Sequence[str] = (),
    task: Any = "",
    grader: str = "",
    tags: Sequence[str] = (),
) -> Prompt:
    """Return a prompt of a row's values, or say what is missing.

    The context stays as it is, since spans count its characters; questions and prefixes lose the white space around
    them, and questions a label "Question:", which is written before every question.

    Raises
    ------
    ValueError
        If context or question is empty or no text, or an answerable prompt has no answer.
    """
    asked = _LABEL.sub("", text(question, "question")).strip()
    told = text(context, "context")
    if not told.strip():
        raise ValueError("its context is empty")
    if not asked:
        raise ValueError("its question is empty")
    right = golds(answer)
    if answerable and not right:
        raise ValueError("its answer is empty")
    given = "" if id is None else text(id, "id").strip()
    return Prompt(
        id=given or str(number),
        context=told,
        question=asked,
        answer=right[0] if right else "",
        answer_prefix=text(answer_prefix, "answer_prefix").strip(),
        evidence=tuple(evidence),
        answer_spans=tuple(answer_spans),
        answerable=answerable,
        task=text(task, "task").strip(),
        tags=tuple(tags),
        answers=tuple(right[1:]),
        choices=tuple(choices),
        grader=grader,
    )
