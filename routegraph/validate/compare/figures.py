"""Figures of one policy of a comparison: tokens gone, reach, where answers fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph.choices import PRUNING
from routegraph.tables import all_of, interval
from routegraph.text import drawn
from routegraph.validate.compare.failure import Failure
from routegraph.validate.compare.policy import PolicyComparison
from routegraph.validate.compare.reach import TOKENS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_LINES: dict[str, dict[str, Any]] = {
    "independent": {"color": plot.COLOURS["red"], "linestyle": ":"},
    "one factor": {"color": plot.COLOURS["orange"], "linestyle": "-."},
    "measured copula": {"color": plot.COLOURS["blue"], "linestyle": "-"},
    "simulated": {"color": plot.COLOURS["green"], "linestyle": "--"},
    "uniform": {"color": "0.5", "linestyle": (0, (1, 3))},
}


_TITLES = {"model": ("slot", ""), "layer": ("head", " of a layer (mean)")}


#: Colour of each threshold of reach, the smallest first.
_EPS_COLOURS = ("blue", "orange", "green", "purple", "sky", "red")


def plot_comparison(found: PolicyComparison, model: str, axes: Any = None) -> Figure:
    """Draw one policy on both head axes, and its reach; bands are two standard errors over held-out prompts.

    Parameters
    ----------
    found : PolicyComparison
        One policy of a `Comparison`.
    model : str
        Name in the title.
    axes : array of Axes, optional
        Where to draw, two axes or, with reach, four; a new figure by default.
    """
    with plot.style():
        if axes is None:
            _, axes = plot.figure(2 if found.reach else 1, 2)
        panels = np.ravel(axes)
        for ax, axis in zip(panels, found.axes.values(), strict=False):
            _draw_axis(ax, found, axis.over)
        plot.legend(panels[0])
        if found.reach:
            for ax, prune in zip(panels[2:], PRUNING, strict=True):
                _draw_reach(ax, found, prune)
            plot.legend(panels[2])
        made: Figure = panels[0].figure
        plot.headline(made, f"{drawn(model)}, policy {drawn(found.policy)} on {drawn(found.scorer)}")
    return made


def panel_words(found: PolicyComparison) -> list[tuple[str, str]]:
    """Return, for every panel of `plot_comparison`, what it shows and what is to be seen, in words."""
    told = [
        (
            f"{found.policy}: fraction of tokens {_title(found, over)}, by compression ratio",
            _seen(found, over),
        )
        for over in found.axes
    ]
    if not found.reach:
        return told
    for prune in PRUNING:
        seen = [
            f"over reads of weight above {reach.eps:g}: {interval(reach.half(), 3)} read off, "
            f"{interval(reach.half('simulated'), 3)} simulated, {interval(reach.half('uniform'), 3)} by uniform reads"
            for reach in found.reach
            if reach.prune == prune and reach.tokens == TOKENS[0]
        ]
        title = f"{found.policy}: fraction of context tokens reached from the last token, pruning {prune}"
        told.append((title, f"Ratio at which half are out of reach, {'; '.join(seen)}."))
    return told


def _seen(found: PolicyComparison, over: str) -> str:
    axis = found.axes[over]
    by = ", ".join(f"{interval(axis.half(name), 3)} by {name}" for name in _LINES)
    seen = [
        "Ratio at which half of the evictable tokens are gone: "
        f"{interval(axis.half('evictable tokens'), 3)} read off, {by}."
    ]
    if "answer tokens" in axis.observed:
        seen.append(f"Half of the answer tokens are gone at {interval(axis.half('answer tokens'), 3)}.")
    if found.measured is not None and found.measured.known:
        seen.append(
            f"Half of the right answers are lost at {interval(found.measured.critical('accuracy'), 3)}."
        )
    return " ".join(seen)


def _draw_reach(ax: Axes, found: PolicyComparison, prune: str) -> None:
    """Draw reach of all context tokens under one pruning, a colour a threshold."""
    shown = [reach for reach in found.reach if reach.prune == prune and reach.tokens == TOKENS[0]]
    for reach, name in zip(shown, _EPS_COLOURS, strict=False):
        colour = plot.COLOURS[name]
        error = 2 * reach.stderr()
        label = f"read off, weight > {reach.eps:g}"
        dots = {"color": colour, "marker": ".", "linestyle": "none", "label": label}
        plot.band(ax, reach.ratios, reach.observed.mean(axis=0), error, **dots)
        ax.plot(reach.ratios, reach.predicted["simulated"].mean, color=colour, linestyle="--", linewidth=1.5)
    ax.plot([], [], color="0.3", linestyle="--", label="simulated, same colour")
    ax.plot(
        shown[0].ratios,
        shown[0].predicted["uniform"].mean,
        color="0.5",
        linestyle=":",
        label="uniform baseline",
    )
    if "cavity" in shown[0].predicted:
        for reach, name in zip(shown, _EPS_COLOURS, strict=False):
            ax.plot(
                reach.ratios,
                reach.predicted["cavity"].mean,
                color=plot.COLOURS[name],
                linewidth=0.7,
                alpha=0.7,
            )
        ax.plot([], [], color="0.3", linewidth=0.7, label="cavity, same colour")
    ax.set(xlim=(0.3, 1), ylim=(-0.02, 1.02), xlabel="compression ratio", ylabel="fraction of tokens reached")
    ax.set_title(f"reach from the last token, pruning {prune}", loc="left")


def _draw_axis(ax: Axes, found: PolicyComparison, over: str) -> None:
    axis = found.axes[over]
    read, error = axis.observed["evictable tokens"], 2 * axis.stderr("evictable tokens")
    black = plot.COLOURS["black"]
    plot.band(
        ax, axis.ratios, read.mean(axis=0), error, color=black, marker=".", linestyle="none", label="read off"
    )
    for name, line in _LINES.items():
        ax.plot(axis.ratios, axis.predicted[name].mean, label=name, linewidth=1.5, **line)
    if "answer tokens" in axis.observed:
        mean = axis.observed["answer tokens"].mean(axis=0)
        ax.plot(axis.ratios, mean, color=plot.COLOURS["purple"], linewidth=1, label="read off, answer tokens")
    if found.measured is not None:
        _draw_failures(ax, found.measured)
    for number, (name, ratio) in enumerate(found.cliffs.items()):
        ax.axvline(
            ratio, color="0.7", linewidth=1, linestyle=(0, (1, 2 + 2 * number)), label=f"cliff: {drawn(name)}"
        )
    ax.set(
        xlim=(0.3, 1),
        ylim=(-0.02, 1.02),
        xlabel="compression ratio",
        ylabel="fraction of tokens gone" + (", of items" if found.measured is not None else ""),
    )
    ax.set_title(_title(found, over), loc="left")


def _draw_failures(ax: Axes, measured: Failure) -> None:
    """Draw measured wrong replies and lost answers with their bands, and the critical ratio with its interval."""
    red, brown, rates = plot.COLOURS["red"], plot.COLOURS["orange"], measured.wrong.rates
    ax.plot(measured.ratios, rates.rate, "s-", color=red, ms=4, label="measured wrong, items")
    ax.fill_between(measured.ratios, rates.low, rates.high, color=red, alpha=0.15, linewidth=0)
    if measured.known:
        error = 2 * measured.kept_error()
        lost = 1 - measured.kept.mean(axis=0)
        look = {"color": brown, "marker": "^", "markersize": 4, "label": "measured right answers lost, items"}
        plot.band(ax, measured.ratios, lost, error, **look)
    ratio = measured.critical("wrong")
    if np.isfinite(ratio.value):
        way = "up" if measured.wrong.rises else "down"
        ax.axvline(
            ratio.value, color=red, linewidth=1, label=f"its critical ratio: {measured.wrong.verdict}, {way}"
        )
        if np.isfinite(ratio.low) and np.isfinite(ratio.high):
            ax.axvspan(ratio.low, ratio.high, color=red, alpha=0.08, linewidth=0)


def _title(found: PolicyComparison, over: str) -> str:
    noun, more = _TITLES[over]
    return f"gone from {all_of(found.axes[over].slots, noun)}{more}"
