"""The figure of a comparison: read off, theory and simulation against the ratio, both head axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph.validate.compare import Comparison, PolicyComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES: dict[str, dict[str, Any]] = {
    "independent": {"color": plot.COLOURS["red"], "linestyle": ":"},
    "one factor": {"color": plot.COLOURS["orange"], "linestyle": "-."},
    "measured copula": {"color": plot.COLOURS["blue"], "linestyle": "-"},
    "simulated": {"color": plot.COLOURS["green"], "linestyle": "--"},
}
_TITLES = {"model": "gone from all {slots} slots", "layer": "gone from all {slots} heads of a layer (mean)"}


def plot_comparison(found: PolicyComparison, model: str, axes: Any = None) -> Figure:
    """Draw one policy on both head axes; bands are two standard errors over held-out prompts.

    Parameters
    ----------
    found : PolicyComparison
        One policy of a `Comparison`.
    model : str
        Name in the title.
    axes : pair of Axes, optional
        Where to draw; a new figure by default.
    """
    with plot.style():
        if axes is None:
            _, axes = plot.figure(1, 2)
        for ax, axis in zip(axes, found.axes.values(), strict=True):
            _draw_axis(ax, found, axis.over)
        axes[0].legend(loc="upper left")
        made: Figure = axes[0].figure
        made.suptitle(
            f"{model}, policy {found.policy} on {found.scorer}", fontsize="medium", x=0.01, ha="left"
        )
    return made


def plot_comparisons(result: Comparison) -> Figure:
    """Draw every policy of a comparison, a row each."""
    with plot.style():
        made, axes = plot.figure(len(result.policies), 2)
    rows = np.atleast_2d(axes)
    for found, pair in zip(result.policies.values(), rows, strict=True):
        plot_comparison(found, result.model, pair)
        for ax, over in zip(pair, found.axes, strict=True):
            ax.set_title(f"{found.policy}: {_title(found, over)}", loc="left")
    made.suptitle(f"{result.model}: read off, theory and simulation", fontsize="medium", x=0.01, ha="left")
    return made


def _draw_axis(ax: Axes, found: PolicyComparison, over: str) -> None:
    axis = found.axes[over]
    read = axis.observed["evictable tokens"]
    error = 2 * read.std(axis=0, ddof=1) / np.sqrt(len(read))
    black = plot.COLOURS["black"]
    plot.band(
        ax, axis.ratios, read.mean(axis=0), error, color=black, marker=".", linestyle="none", label="read off"
    )
    for name, line in _LINES.items():
        ax.plot(axis.ratios, axis.predicted[name].mean, label=name, linewidth=1.5, **line)
    if "answer tokens" in axis.observed:
        mean = axis.observed["answer tokens"].mean(axis=0)
        ax.plot(axis.ratios, mean, color=plot.COLOURS["purple"], linewidth=1, label="read off, answer tokens")
    for number, (name, ratio) in enumerate(found.cliffs.items()):
        ax.axvline(
            ratio, color="0.7", linewidth=1, linestyle=(0, (1, 2 + 2 * number)), label=f"cliff: {name}"
        )
    ax.set(
        xlim=(0.3, 1),
        ylim=(-0.02, 1.02),
        xlabel="compression ratio",
        ylabel="fraction of tokens gone",
    )
    ax.set_title(_title(found, over), loc="left")


def _title(found: PolicyComparison, over: str) -> str:
    return _TITLES[over].format(slots=found.axes[over].slots)
