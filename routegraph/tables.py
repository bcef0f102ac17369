"""Results in words and tables: for a terminal through rich, for a page as HTML."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from routegraph.stats.intervals import Interval


@dataclass(frozen=True)
class Grid:
    """A table of words, before it is drawn anywhere; columns from `right_from` on are right-aligned."""

    columns: list[str]
    rows: list[list[str]]
    title: str = ""
    right_from: int = 1

    def to_rich(self) -> Table:
        """Return the table for a terminal."""
        made = Table(
            title=self.title or None,
            title_justify="left",
            title_style="bold",
            header_style="bold",
            box=None,
            padding=(0, 1, 0, 0),
        )
        for position, column in enumerate(self.columns):
            right = position >= self.right_from
            made.add_column(column, justify="right" if right else "left", no_wrap=right or position == 0)
        for row in self.rows:
            made.add_row(*row)
        return made

    def to_html(self) -> str:
        """Return the table as HTML."""

        def row(cells: list[str], tag: str) -> str:
            drawn = (
                f"<{tag}{' class=r' if i >= self.right_from else ''}>{html.escape(cell)}</{tag}>"
                for i, cell in enumerate(cells)
            )
            return f"<tr>{''.join(drawn)}</tr>"

        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        body = "".join(row(cells, "td") for cells in self.rows)
        return f"<table>{caption}<thead>{row(self.columns, 'th')}</thead><tbody>{body}</tbody></table>"


def number(value: float, error: float | None, trials: int) -> str:
    """Return a mean with its uncertainty; none or all out of `trials` becomes a 95 % bound (trials = 0: no share)."""
    if trials == 0 or math.isnan(value):
        return "-" if math.isnan(value) else f"{value:.4g}" + ("" if error is None else f" ± {error:.2g}")
    bound = 1 - 0.05 ** (1 / trials)
    if value == 0:
        return f"< {bound:.2g}"
    if value == 1:
        return f"> {1 - bound:.{max(2, 1 - math.floor(math.log10(bound)))}f}"
    if error is None or math.isnan(error):
        return f"{value:.4g}"
    digits = 4 if error == 0 else min(8, max(2, 1 - math.floor(math.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def compact(value: float, error: float, trials: int) -> str:
    """Return a mean with its standard error in its last digits, 0.488(12) for 0.488 ± 0.012."""
    if value in (0, 1) or math.isnan(error):
        return number(value, None, trials)
    return f"{value:.3f}({max(1, round(error * 1000))})"


def interval(found: Interval, digits: int = 4) -> str:
    """Return a critical ratio with its 95 % interval; ? where the curve does not get there."""
    if math.isnan(found.value):
        return "not reached"
    if math.isnan(found.low) and math.isnan(found.high):
        return f"{found.value:.{digits}f}"
    low, high = ("?" if math.isnan(bound) else f"{bound:.{digits}f}" for bound in (found.low, found.high))
    return f"{found.value:.{digits}f} [{low}, {high}]"


def signed(found: Interval, digits: int = 3) -> str:
    """Return a difference with its sign and 95 % interval; - where there is none."""
    if math.isnan(found.value):
        return "-"
    value, low, high = (
        "?" if math.isnan(bound) else f"{bound:+.{digits}f}".replace("0.", ".", 1) for bound in found
    )
    return value if low == high == "?" else f"{value} [{low}, {high}]"


def show(console: Console, sentences: list[str], style: str | None = None) -> None:
    """Print sentences, a line each."""
    for sentence in sentences:
        console.print(sentence, highlight=False, style=style)


# --- simulate ---------------------------------------------------------------------------------------
