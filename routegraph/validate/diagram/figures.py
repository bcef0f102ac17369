"""The diagram as a figure: ratio across, bits for each number upwards, colour what is kept, lines of equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph import plot
from routegraph.validate.diagram.cells import Grid
from routegraph.validate.diagram.estimates import LEVELS
from routegraph.validate.quantise.precision import WHOLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Shares of the whole cache's bytes that a grey line stands for.
LINES = (0.5, 0.25, 0.125, 0.0625)
#: Panels beside each other.
_ACROSS = 3
#: Levels of what is kept, and how their lines are drawn.
_LEVEL_LINES: list[tuple[float, Any]] = list(zip(LEVELS, ("-", "--"), strict=True))
Floats = NDArray[np.float64]
_MARKERS = {"": "o", "kivi": "s", "svdq": "^", "token": "D"}
_WORDS = {"": "one scale a row", "kivi": "KIVI: a scale a channel of keys", "svdq": "SVDq", "token": "token8"}
_TITLES = {
    "measured": "Measured",
    "product": "Predicted: product of both alone",
    "both": "Predicted: right under both alone",
    "simulated": "Simulated: logit noise as measured",
    "calibrated": "Simulated, calibrated on bits alone",
}


def plot_diagram(grid: Grid, surfaces: Mapping[str, Floats], axes: Any = None) -> Figure:
    """Draw a panel for what is measured and each estimate of it, float64[n_bits, n_ratios]; axes : as many."""
    from matplotlib.lines import Line2D

    with plot.style():
        if axes is None:
            across = min(len(surfaces), _ACROSS)
            _, axes = plot.figure(-(-len(surfaces) // across), across, width=3.7, height=3.7)
            for ax in np.ravel(axes)[len(surfaces) :]:
                ax.remove()
        panels = np.ravel(axes)[: len(surfaces)]
        for ax, (name, kept) in zip(panels, surfaces.items(), strict=True):
            drawn = _panel(ax, grid, kept, name)
        made: Figure = panels[0].figure
        for ax in panels[::_ACROSS]:
            ax.set_ylabel("bits for each number kept, scales counted")
        made.colorbar(drawn, ax=list(panels), label="share of the answers kept", pad=0.01, aspect=30)
        layouts = list(dict.fromkeys(grid.layouts))
        handles = [
            *(
                Line2D([], [], marker=_MARKERS[one], color="0.3", linestyle="none", label=_WORDS[one])
                for one in layouts
            ),
            Line2D([], [], color="0.6", linewidth=0.8, label="equal bytes"),
            *(
                Line2D([], [], color="black", linestyle=style, label=f"{100 * level:g} % kept")
                for level, style in _LEVEL_LINES
            ),
            Line2D([], [], color=plot.COLOURS["red"], linewidth=0.9, label="the same, as measured"),
        ]
        made.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        made.suptitle(
            f"{grid.settings['model']}, policy {grid.policy}, {len(grid.held)} answers",
            x=0.01,
            ha="left",
        )
    return made


def _panel(ax: Any, grid: Grid, kept: Floats, name: str) -> Any:
    x, y = np.broadcast_to(grid.ratios, kept.shape), grid.per_number
    low, top, right = float(y.min()) / 1.3, WHOLE * 1.35, float(grid.ratios[-1]) + 0.06
    _equal_bytes(ax, low, top, right)
    for layout, marker in _MARKERS.items():
        own = [k for k, one in enumerate(grid.layouts) if one == layout]
        places, heights, colours = (part[own].ravel() for part in (x, y, kept))
        drawn = ax.scatter(
            places, heights, c=colours, marker=marker, cmap="viridis", vmin=0, vmax=1, s=52, zorder=3
        )
    lines = _lined(grid.layouts)
    for shown, colour, width in ((kept, "black", 1.4), (grid.kept, plot.COLOURS["red"], 0.9)):
        if colour != "black" and name == "measured":
            continue
        for level, style in _LEVEL_LINES:
            if shown[lines].min() < level < shown[lines].max():
                ax.contour(
                    x[lines],
                    y[lines],
                    shown[lines],
                    levels=[level],
                    colors=colour,
                    linestyles=style,
                    linewidths=width,
                    zorder=2,
                )
    ax.set_yscale("log", base=2)
    ticks = [bits for bits in (2, 3, 4, 6, 8, 12, 16) if bits > low]
    ax.set(
        xlabel="compression ratio (rows removed)",
        xlim=(-0.04, right),
        ylim=(low, top),
        yticks=ticks,
        yticklabels=[str(one) for one in ticks],
    )
    ax.minorticks_off()
    ax.set_title(_TITLES[name], fontsize="small")
    return drawn


def _equal_bytes(ax: Any, low: float, top: float, right: float) -> None:
    """Draw lines of equal bytes, each with its share where it leaves the panel, off the data."""
    across = np.linspace(0, right, 400)
    for share in LINES:
        ax.plot(across, WHOLE * share / (1 - across), color="0.6", linewidth=0.8, zorder=1)
        end, leaves = WHOLE * share / (1 - right), 1 - WHOLE * share / top
        told: dict[str, Any] = {"color": "0.45", "fontsize": "x-small", "annotation_clip": False}
        if low < end < top:
            ax.annotate(
                f"{100 * share:g} %", (right, end), (3, 0), textcoords="offset points", va="center", **told
            )
        elif end >= top:
            ax.annotate(
                f"{100 * share:g} %", (leaves, top), (-3, -9), textcoords="offset points", ha="right", **told
            )


def _lined(layouts: list[str]) -> list[int]:
    """Return the precisions that lines of equal accuracy go by: the cache as it is, and the layout with the most."""
    own = layouts[1:]
    most = max(dict.fromkeys(own), key=own.count)
    return [0, *(k for k, one in enumerate(layouts) if k and one == most)]
