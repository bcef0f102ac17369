"""The pages that studies write, and tables in them."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table in markdown, the first column to the left and the others to the right."""
    rule = ["---", *("---:" for _ in columns[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))
