"""House style of the figures: vector by default, colour-blind safe, error bands, intervals marked."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
}


@contextmanager
def style() -> Iterator[None]:
    """Use the house style inside a with block; global settings of matplotlib stay as they were."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def figure(rows: int = 1, columns: int = 1, width: float = 6.4, height: float = 4.0) -> tuple[Figure, Any]:
    """Return a figure and its axes (a single Axes, or an array of them) that need no display."""
    from matplotlib.figure import Figure

    with style():
        made = Figure(figsize=(width * columns, height * rows))
        return made, made.subplots(rows, columns)


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
