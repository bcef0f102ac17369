"""What a file is, told by its content, and its prompts."""

from __future__ import annotations

from collections.abc import Iterator

from routegraph.registry import BUILT_IN
from routegraph.validate.prompts.formats.base import PromptsFile, Table, formats
from routegraph.validate.prompts.formats.columns import NAMES, find_column
from routegraph.validate.prompts.formats.containers import read_table

#: Readers that come with the package, in the order in which they are asked: those that know more fields first.
ORDER = ("lm-eval", "kvpress", "longbench", "longbench-v2", "ruler", "squad", "routegraph", "columns")


def understand(data: bytes, name: str) -> PromptsFile:
    """Return the prompts of a file, by the first reader that knows its content.

    Parameters
    ----------
    data : bytes
        Of the file.
    name : str
        Of the file, for messages.

    Raises
    ------
    ValueError
        If no reader knows it, with what was found and what is needed; if none of its rows can be used; if it is
        packed, no UTF-8, empty or broken.
    """
    table = read_table(data, name)
    for reader in _readers():
        read = formats[reader](table)
        if read is not None:
            if not isinstance(read, PromptsFile):
                raise ValueError(
                    f"format {reader!r} must return a PromptsFile or None, got {type(read).__name__}"
                )
            return read
    raise ValueError(_not_understood(table))


def _readers() -> Iterator[str]:
    yield from (name for name in formats if formats.origin(name) != BUILT_IN)
    yield from ORDER


def _not_understood(table: Table) -> str:
    """Say what a file holds, and what it lacks."""
    if not table.rows:
        fields = ", ".join(map(repr, table.document)) if isinstance(table.document, dict | list) else ""
        found = (
            f"one {table.container} object of {fields or 'no fields'}" if table.container == "JSON" else ""
        )
        found = (
            found
            or f"text without rows of columns; its first line is {table.text.strip().splitlines()[0][:60]!r}"
        )
        return f"{table.name} is not understood: it holds {found}. {_NEEDED}"
    columns = ", ".join(map(repr, table.columns[:12])) + (", ..." if len(table.columns) > 12 else "")
    missing = [kind for kind in NAMES if find_column(kind, table.columns) is None]
    lacks = " and ".join(f"{kind} ({', '.join(NAMES[kind][0])})" for kind in missing)
    found = f"its {table.container} has the columns {columns}, and none for the {lacks}"
    return f"{table.name} is not understood: {found}. {_NEEDED}"


_NEEDED = (
    "Needed are a context, a question and an answer under such names, or a file of routegraph, kvpress, RULER, "
    "LongBench, lm-eval or SQuAD"
)
