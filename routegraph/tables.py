"""Results in words and tables: for a terminal through rich, for a page as HTML."""

from __future__ import annotations

import html
import io
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
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

    def to_rich(self) -> Drawn:
        """Return the table for a terminal: it never cuts a word, however narrow that is."""
        return Drawn(self)

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
class Drawn:
    """A table on a terminal: as wide as that allows, and a row below the other where that is too narrow.

    Attributes
    ----------
    grid : Grid
    """

    grid: Grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the first form of the table in which every word is whole."""
        grid = _written(self.grid, console.encoding)
        words = Counter(_words_of(grid))
        for widths in (None, _fair_widths(grid, options.max_width)):
            table = _table(grid, widths)
            lines = console.render_lines(table, options.update(width=options.max_width), pad=False)
            if Counter(" ".join("".join(part.text for part in line) for line in lines).split()) == words:
                yield table
                return
        yield from _stacked(grid)


def _table(grid: Grid, widths: Sequence[int] | None) -> Table:
    made = Table(
        title=Text(grid.title) if grid.title else None,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for position, column in enumerate(grid.columns):
        right = position >= grid.right_from
        made.add_column(
            Text(column),
            justify="right" if right else "left",
            no_wrap=right or position == 0,
            width=widths[position] if widths else None,
        )
    for row in grid.rows:
        made.add_row(*map(Text, row))  # a model's reply may hold what rich takes for markup
    return made


def _stacked(grid: Grid) -> Iterator[RenderableType]:
    """Yield every row as a line with its first cell, and below it a line a column."""
    if grid.title:
        yield Text(grid.title, style="bold", overflow="fold")
    for row in grid.rows:
        for position, (column, cell) in enumerate(zip(grid.columns, row, strict=True)):
            if cell:
                told = f"{_line(column)}: {_line(cell)}" if column else _line(cell)
                style, indent = ("", 2) if position else ("bold", 0)
                yield Padding(Text(told, style=style, overflow="fold"), (0, 0, 0, indent))


def _line(cell: str) -> str:
    return ", ".join(cell.splitlines())


def _words_of(grid: Grid) -> list[str]:
    return " ".join([grid.title, *grid.columns, *(cell for row in grid.rows for cell in row)]).split()


def _fair_widths(grid: Grid, room: int) -> list[int] | None:
    """Return widths that fit into `room` and cut no word, as even as that goes; None where there are none."""
    need, want = [], []
    for position, column in enumerate(grid.columns):
        lines = [
            line for cell in (column, *(row[position] for row in grid.rows)) for line in cell.splitlines()
        ]
        want.append(max((Text(line).cell_len for line in lines), default=0))
        whole = position == 0 or position >= grid.right_from
        parts = lines if whole else [word for line in lines for word in line.split()]
        need.append(max((Text(part).cell_len for part in parts), default=0))
    room -= len(need)  # a blank after every column
    if sum(need) > room:
        return None
    widths = need
    for level in range(room + 1):
        more = [max(least, min(most, level)) for least, most in zip(need, want, strict=True)]
        if sum(more) > room:
            break
        widths = more
    return widths


#: How characters are written where a terminal has them not.
_WRITTEN = {
    "±": "+-",
    "×": "x",
    "…": "...",
    "–": "-",
    "—": "-",
    "−": "-",
    "→": "->",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
}
_WRITTEN |= dict.fromkeys("‘’‚", "'") | dict.fromkeys("“”„", '"') | dict.fromkeys("•·", "*") | {"\u00a0": " "}


def written(text: str, encoding: str = "utf-8") -> str:
    """Return a text with the characters that an encoding has, others as near as it goes ("+-" for "±", "e" for "é").

    Signs that steer a terminal are shown and not obeyed: see `printable`.
    """
    text = "\n".join(map(printable, text.split("\n")))
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_character(one, encoding) for one in text)
    return text


def printable(text: str) -> str:
    """Return a text in which escapes, half characters and whatever else steers a terminal are shown as Python does."""
    if text.isprintable():
        return text
    return "".join(repr(one)[1:-1] if _steers(one) else one for one in text)


def _steers(one: str) -> bool:
    """Return whether a sign is more than a letter or a space to a terminal; joiners of letters are not."""
    return unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp") and one not in "\t\u200c\u200d\u00ad"


def _character(one: str, encoding: str) -> str:
    parts = unicodedata.normalize("NFKD", one).replace("\u2044", "/")  # a fraction's own stroke
    bare = "".join(part for part in parts if not unicodedata.combining(part))
    for form in (one, _WRITTEN.get(one), bare):
        if form and form.encode(encoding, "ignore").decode(encoding) == form:
            return form
    return "?"


def _written(grid: Grid, encoding: str) -> Grid:
    rows = [[written(cell, encoding) for cell in row] for row in grid.rows]
    columns = [written(column, encoding) for column in grid.columns]
    return Grid(columns, rows, written(grid.title, encoding), grid.right_from)


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


def all_of(count: int, noun: str) -> str:
    """Return what all of several are called: "all 8 heads", or "the only head"."""
    return f"the only {noun}" if count == 1 else f"all {count} {noun}s"


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
                console.print(
                    written(block.text, console.encoding), style="bold", markup=False, highlight=False
                )
            else:
                for sentence in block.sentences:
                    mark = "- " if block.points else ""
                    console.print(
                        written(f"{mark}{sentence}", console.encoding),
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

    def __str__(self) -> str:
        return self.summary()

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
        console.print(written(sentence, console.encoding), highlight=False, style=style)
