"""House style of the figures: vector by default, colour-blind safe, error bands, intervals marked."""

from __future__ import annotations

import io
import itertools
import os
import string
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from routegraph.files import atomic_open, check_writable
from routegraph.text import hypertext

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette, safe for colour-blind readers.
COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "black": "#000000",
}
FORMATS = ("pdf", "svg", "png")

_STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": "small",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 150,
    "svg.hashsalt": "routegraph",
    # Fonts whole, as letters: publishers take no type 3.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
}

#: Widths of a paper in inches: a column of two, and the whole page.
WIDTHS = {"column": 3.4, "page": 7.0}
#: A panel is not made narrower than this beside another one.
_NARROWEST = 2.2
_FOR_PAPER: dict[Any, Any] = {
    "font.size": 8,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
}
_paper: ContextVar[float | None] = ContextVar("paper", default=None)


@contextmanager
def style() -> Iterator[None]:
    """Use the house style inside a with block; global settings of matplotlib stay as they were."""
    import matplotlib

    with matplotlib.rc_context(_STYLE | (_FOR_PAPER if _paper.get() else {})):
        yield


@contextmanager
def paper(width: str = "column") -> Iterator[None]:
    """Make the figures inside a with block as wide as a paper has them, with letters of 8 points.

    ``with plot.paper("column"): result.plot()``. Panels that would be too narrow beside each other stand below.

    Parameters
    ----------
    width : {"column", "page"}
        3.4 inches, one of two columns; or 7, both.

    Raises
    ------
    ValueError
        If it is another one.
    """
    if width not in WIDTHS:
        raise ValueError(f"unknown width {width!r}; choose from: {', '.join(WIDTHS)}")
    token = _paper.set(WIDTHS[width])
    try:
        with style():
            yield
    finally:
        _paper.reset(token)


def figure(rows: int = 1, columns: int = 1, width: float = 6.4, height: float = 4.0) -> tuple[Figure, Any]:
    """Return a figure and its axes (a single Axes, or an array of them) that need no display.

    Several panels are called a, b, c. `width` and `height` are those of a panel in inches, unless a `paper` says how
    wide the figure is.
    """
    from matplotlib.figure import Figure

    down, across, whole = rows, columns, _paper.get()
    if whole is not None:
        if columns > 1 and whole / columns < _NARROWEST:
            down, across = rows * columns, 1
        width, height = whole / across, height / width * whole / across
        height = max(height, 0.8 * _NARROWEST)
    with style():
        made = Figure(figsize=(width * across, height * down))
        axes = made.subplots(down, across)
        if rows > 1 and columns > 1:
            axes = axes.reshape(rows, columns)
        if rows * columns > 1:
            for ax, name in zip(np.ravel(axes), _names(), strict=False):
                _letter(ax, name)
        return made, axes


_LETTER = "letter"


def _names() -> Iterator[str]:
    for length in (1, 2):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield "".join(letters)


def _letter(ax: Axes, name: str) -> None:
    """Write a panel's letter beside its title, above the axis."""
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    ax.annotate(
        name,
        (0, 1),
        (-9, 6),
        ha="right",
        va="baseline",
        weight="bold",
        gid=_LETTER,
        annotation_clip=False,
        **place,
    )


def legend(*row: Axes) -> None:
    """Put the legend of each panel of a row below it, off the curves; a figure of ours grows by as much."""
    from matplotlib.transforms import ScaledTranslation

    made = row[0].get_figure(root=True)
    if made is None:
        return
    lines = 0.0
    for ax in row:
        handles, labels = ax.get_legend_handles_labels()
        if not labels:
            continue
        labels, columns = _fitting(labels, _panel_width(ax))
        lines = max(lines, sum(label.count("\n") + 1 for label in labels) / columns + 1)
        below = ScaledTranslation(0, -38 / 72, made.dpi_scale_trans)
        place: dict[str, Any] = {"bbox_to_anchor": (0, 0), "bbox_transform": ax.transAxes + below}
        ax.legend(handles, labels, loc="upper left", ncols=columns, borderaxespad=0, frameon=False, **place)
    if lines and made.get_layout_engine() is not None:
        made.set_figheight(made.get_figheight() + 0.16 * lines)


def _panel_width(ax: Axes) -> float:
    """Return the width of a panel in points, its axis' labels off."""
    made, place = ax.get_figure(root=True), ax.get_subplotspec()
    assert made is not None
    return 72 * made.get_figwidth() / (1 if place is None else place.get_gridspec().ncols) - 40


def _letters(width: float, size: str = "small") -> int:
    """Return how many letters of a size stand in a width of so many points."""
    from matplotlib.font_manager import FontProperties

    return int(width / (0.56 * FontProperties(size=size).get_size_in_points()))


def _fitting(labels: Sequence[str], width: float) -> tuple[list[str], int]:
    """Return labels with line breaks, and how many columns of a legend stand in a width."""
    import matplotlib

    handle, room = 6, _letters(width, matplotlib.rcParams["legend.fontsize"])
    longest = max(map(len, labels)) + handle
    columns = max(1, min(3, room // longest))
    return [textwrap.fill(label, max(12, room - handle)) for label in labels], columns


def headline(made: Figure, text: str, size: str = "medium") -> None:
    """Write above a figure what it is of, in as many lines as its width asks for."""
    made.suptitle(
        textwrap.fill(text, _letters(72 * made.get_figwidth(), size)), fontsize=size, x=0.01, ha="left"
    )


def axes_or_new(ax: Axes | None) -> Axes:
    """Return `ax`, or the axes of a new figure."""
    return figure()[1] if ax is None else ax


def band(ax: Axes, x: ArrayLike, mean: ArrayLike, error: ArrayLike | None, **line: Any) -> None:
    """Draw a curve with a band of `error` on either side; no band where `error` is None."""
    centre = np.asarray(mean, dtype=float)
    (drawn,) = ax.plot(x, centre, **line)
    if error is not None:
        half = np.asarray(error, dtype=float)
        ax.fill_between(x, centre - half, centre + half, color=drawn.get_color(), alpha=0.2, linewidth=0)


def mark_critical(
    ax: Axes, value: float, interval: tuple[float, float] | None, label: str, colour: str
) -> None:
    """Mark a critical ratio by a vertical line and its interval by a shaded span."""
    ax.axvline(value, color=colour, linestyle="--", linewidth=1, label=label)
    if interval is not None:
        ax.axvspan(*interval, color=colour, alpha=0.12, linewidth=0)


def check_figure_path(path: str | os.PathLike[str]) -> None:
    """Refuse, before anything is computed, a figure file that could not be written."""
    suffix = Path(path).suffix.lstrip(".").lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"cannot draw {str(path)!r}: unknown format {suffix!r}; choose from: {', '.join(FORMATS)}"
        )
    check_writable(path)


def save(made: Figure, path: str | os.PathLike[str]) -> None:
    """Save a figure atomically; the ending of `path` names the format."""
    check_figure_path(path)
    kind = Path(path).suffix.lstrip(".").lower()
    with style(), atomic_open(path) as stream:
        made.savefig(stream, format=kind, metadata=_metadata(kind))


def to_svg(made: Figure, title: str = "", description: str = "") -> str:
    """Return a figure as an <svg> element, ready to be placed in a page.

    title, description : what it shows and what is to be seen, for readers who do not see it; without them the page must
    tell.
    """
    with style():
        return _svg(made, title, description, None)


def to_panels(made: Figure, described: Sequence[tuple[str, str]]) -> list[str]:
    """Return every panel of a figure as an <svg> element of its own, its legend below it: legible on a telephone.

    A panel without data is left out, one without a title is called by what stands before the colon of `title`. The
    figure is spent thereby.

    Parameters
    ----------
    made : Figure
    described : sequence of (str, str)
        Of every panel, in the order of the axes, what it shows and what is to be seen.
    """
    panels = []
    with style():
        made.draw_without_rendering()
        made.set_layout_engine("none")
        made.suptitle("")
        for ax in made.axes:
            ax.set_visible(False)
            for text in [one for one in ax.texts if one.get_gid() == _LETTER]:
                text.remove()
        for ax, (title, description) in zip(made.axes, described, strict=True):
            if not ax.has_data():
                continue
            ax.set_visible(True)
            if not ax.get_title(loc="left"):
                ax.set_title(title.partition(":")[0], loc="left")
            _legend_below(ax)
            box = ax.get_tightbbox()
            assert box is not None
            inches = box.padded(4).transformed(made.dpi_scale_trans.inverted())
            panels.append(_svg(made, title, description, inches))
            ax.set_visible(False)
    return panels


def _legend_below(ax: Axes) -> None:
    if (former := ax.get_legend()) is not None:
        former.remove()
    handles, labels = ax.get_legend_handles_labels()
    box = ax.get_tightbbox()
    if labels and box is not None:
        below = ax.transAxes.inverted().transform((0, box.y0))[1]
        columns = 2 if max(map(len, labels)) < 22 else 1
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, below), "ncols": columns}
        ax.legend(handles, labels, frameon=False, borderaxespad=0.2, **place)


def _svg(made: Figure, title: str, description: str, box: Any) -> str:
    buffer = io.StringIO()
    made.savefig(buffer, format="svg", metadata=_metadata("svg"), bbox_inches=box)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    if not title:
        return text
    head, end, rest = text.partition(">")
    told = f"<title>{hypertext(title)}</title><desc>{hypertext(description)}</desc>"
    label = hypertext(f"{title}. {description}")
    return f'{head} role="img" aria-label="{label}"{end}{told}{rest}'


def _metadata(kind: str) -> dict[str, Any] | None:
    """No dates in files: the same data give the same bytes."""
    return {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
