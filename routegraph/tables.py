"""Results in words and tables: for a terminal through rich, for a page as HTML."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

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
            title=Text(self.title) if self.title else None,
            title_justify="left",
            title_style="bold",
            header_style="bold",
            box=None,
            padding=(0, 1, 0, 0),
        )
        for position, column in enumerate(self.columns):
            right = position >= self.right_from
            made.add_column(
                Text(column), justify="right" if right else "left", no_wrap=right or position == 0
            )
        for row in self.rows:
            made.add_row(*map(Text, row))  # a model's reply may hold what rich takes for markup
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

    def to_markdown(self) -> str:
        """Return the table as Markdown, without its title; a bar in a cell, which would end it, becomes a stroke."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


@dataclass(frozen=True)
class Heading:
    """A line that says what follows."""

    text: str


@dataclass(frozen=True)
class Words:
    """Sentences, a line each.

    Attributes
    ----------
    sentences : tuple of str
    points : bool
        Whether they are points of a list.
    note : bool
        Whether they are a note on how to read what stands above.
    """

    sentences: tuple[str, ...]
    points: bool = False
    note: bool = False


def words(*sentences: str) -> Words:
    """Return sentences as they are."""
    return Words(sentences)


def points(sentences: Iterable[str]) -> Words:
    """Return sentences as points of a list."""
    return Words(tuple(sentences), points=True)


def note(*sentences: str) -> Words:
    """Return sentences as a note on how to read what stands above."""
    return Words(sentences, note=True)


def many(count: int, noun: str) -> str:
    """Return a count with its noun: "1 prompt", "2 prompts"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def spanned(values: Iterable[int]) -> str:
    """Return the least and the most of some numbers: "3 to 8", or "3"."""
    found = list(values)
    return " to ".join(dict.fromkeys((str(min(found)), str(max(found)))))


Block = Heading | Words | Grid


@dataclass(frozen=True)
class Page:
    """A result in words and tables, before it is shown anywhere.

    Attributes
    ----------
    blocks : tuple of Heading, Words or Grid
    """

    blocks: tuple[Block, ...]

    def show(self, console: Console) -> None:
        """Print it on a terminal."""
        for position, block in enumerate(self.blocks):
            if position and (not isinstance(block, Words) or block.note):
                console.print()
            if isinstance(block, Grid):
                console.print(block.to_rich())
            elif isinstance(block, Heading):
                console.print(block.text, style="bold", markup=False, highlight=False)
            else:
                for sentence in block.sentences:
                    mark = "- " if block.points else ""
                    console.print(
                        f"{mark}{sentence}",
                        style="dim" if block.note else None,
                        highlight=False,
                        markup=False,
                    )

    def to_text(self, width: int = 100) -> str:
        """Return it as plain text."""
        sink = io.StringIO()
        self.show(Console(file=sink, width=width, color_system=None, legacy_windows=False))
        return "\n".join(line.rstrip() for line in sink.getvalue().splitlines())

    def to_html(self) -> str:
        """Return it as HTML."""
        return "".join(_block_html(block) for block in self.blocks)


class Shown:
    """A result that has a page: told in words as text, drawn as HTML in a notebook."""

    def page(self) -> Page:
        """Return the result in words and tables."""
        raise NotImplementedError

    def summary(self) -> str:
        """Return the result in words and tables, plain text."""
        return self.page().to_text()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: summary() tells it in words, plot() draws it>"

    def _repr_html_(self) -> str:
        return self.page().to_html()


def _block_html(block: Block) -> str:
    if isinstance(block, Grid):
        return block.to_html()
    if isinstance(block, Heading):
        return f"<p><b>{html.escape(block.text)}</b></p>"
    if block.points:
        return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in block.sentences)}</ul>"
    kind = " class=note" if block.note else ""
    return "".join(f"<p{kind}>{html.escape(line)}</p>" for line in block.sentences)


def number(value: float | None, error: float | None, trials: int) -> str:
    """Return a mean with its uncertainty; none or all out of `trials` becomes a 95 % bound (trials = 0: no share)."""
    if value is None:
        return "-"
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
