"""The pages that studies write, and tables in them."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table in markdown, the first column to the left and the others to the right."""
    rule = ["---", *("---:" for _ in columns[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))


def between(page: str, begin: str, text: str, end: str) -> str:
    """Return a page with a text put between two marks in it, each on a line of its own."""
    head, _, rest = page.partition(begin)
    return f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
