"""The pages that studies write, and tables in them."""

from __future__ import annotations

import math
from pathlib import Path

from routegraph.files import atomic_open
from routegraph.stats.intervals import Interval
from routegraph.tables import interval

DOCS = Path(__file__).parents[1] / "docs"


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table in markdown, the first column to the left and the others to the right."""
    rule = ["---", *("---:" for _ in columns[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))


def put_between(path: Path, begin: str, text: str, end: str) -> None:
    """Put a text between two marks of a page, with a line free on either side."""
    written = between(path.read_text("utf-8"), begin, f"\n{text}\n", end)
    with atomic_open(path, "w") as stream:
        stream.write(written)


def cell(found: tuple[float, float, float], digits: int = 2) -> str:
    """Return a value with its interval, as `routegraph.tables.interval` writes it; - where there is no value."""
    return "-" if math.isnan(found[0]) else interval(Interval(*found), digits)


def between(page: str, begin: str, text: str, end: str) -> str:
    """Return a page with a text put between two marks in it, each on a line of its own."""
    head, _, rest = page.partition(begin)
    return f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
