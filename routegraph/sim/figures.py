"""The figure of a simulation: what is lost and what is still reached, at every ratio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = NDArray[np.float64]


_LOST = {
    "ger": ("GER, all slots", "blue"),
    "ger_layer": ("GER, mean over layers", "orange"),
    "eviction_rate_layer": ("eviction rate, mean over layers", "sky"),
}


_REACHED = {
    "reach_any": ("any answer token", "green"),
    "reach_answers": ("answer tokens", "purple"),
    "reach_all": ("all answer tokens", "red"),
    "reach_fraction": ("context tokens", "black"),
}


def draw_simulation(
    estimate: Callable[[str, Sequence[float]], tuple[Curve, Curve | None]],
    theory: Callable[[str, Sequence[float]], Curve | None],
    grid: Sequence[float],
    marked: Sequence[float],
    title: str,
    axes: Any = None,
) -> Figure:
    """Draw retention and accessibility against the ratio.

    Parameters
    ----------
    estimate : callable
        Of an observable and ratios; returns its mean and standard error.
    theory : callable
        The same for what theory predicts; None where none applies.
    grid, marked : sequence of float
        Ratios to draw, and those to mark by a vertical line.
    title : str
    axes : pair of Axes, optional
        Where to draw; a new figure by default.
    """
    with plot.style():
        return _draw(estimate, theory, grid, marked, title, plot.figure(1, 2)[1] if axes is None else axes)


def _draw(
    estimate: Callable[[str, Sequence[float]], tuple[Curve, Curve | None]],
    theory: Callable[[str, Sequence[float]], Curve | None],
    grid: Sequence[float],
    marked: Sequence[float],
    title: str,
    axes: Any,
) -> Figure:
    for ax, names, panel, label in (
        (axes[0], _LOST, "Retention: what is lost", "fraction of tokens gone"),
        (axes[1], _REACHED, "Accessibility: what the query still reaches", "fraction reached"),
    ):
        for name, (text, colour) in names.items():
            mean, error = estimate(name, grid)
            plot.band(ax, grid, mean, error, color=plot.COLOURS[colour], label=text)
            predicted = theory(name, grid)
            if predicted is not None:
                ax.plot(grid, predicted, color=plot.COLOURS[colour], linestyle="--", linewidth=1)
        for ratio in marked:
            ax.axvline(ratio, color="0.6", linestyle=":", linewidth=1)
        ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="compression ratio", ylabel=label, title=panel)
    axes[0].plot([], [], color="0.3", linestyle="--", linewidth=1, label="theory")
    plot.legend(*axes)
    made: Figure = axes[0].figure
    plot.headline(made, title, "small")
    return made
