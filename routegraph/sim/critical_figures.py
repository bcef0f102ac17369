"""Figures of a critical fit: the curves with the critical ratio, and what it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph.theory.cliff import RISE
from routegraph.theory.collapse import scaled_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from routegraph.sim.critical_result import CriticalFit

_COLOURS = [colour for name, colour in plot.COLOURS.items() if name not in ("black", "yellow")]


def plot_fit(fit: CriticalFit, axes: Any = None) -> Figure:
    """Draw a fit.

    Parameters
    ----------
    fit : CriticalFit
        Bands are one standard error; the shaded span is the 95 % interval of the critical ratio.
    axes : pair of Axes, optional
        Curves, and collapse or crossings or peaks; one is enough for measured counts.
    """
    with plot.style():
        if fit.method == "trials":
            return _counts(fit, plot.figure()[1] if axes is None else axes)
        left, right = plot.figure(1, 2, width=5.2)[1] if axes is None else axes
        x, mean, error = np.array(fit.ratios), np.array(fit.mean), np.array(fit.stderr)
        for s, size in enumerate(fit.sizes):
            colour = _COLOURS[s % len(_COLOURS)]
            plot.band(left, x, mean[s], error[s], color=colour, label=f"{fit.scale} = {size:g}")
        _mark(left, fit)
        left.set(xlabel="compression ratio", ylabel=fit.observable, title=f"{fit.verdict}, by {fit.method}")
        left.legend()
        {"collapse": _collapse, "binder": _crossings}.get(fit.method, _places)(fit, right, x, mean)
        made: Figure = left.figure
        return made


def _mark(ax: Any, fit: CriticalFit) -> None:
    if fit.alpha_c is not None:
        low, high = fit.ci
        known = None if low is None or high is None else (low, high)
        plot.mark_critical(ax, fit.alpha_c, known, f"critical ratio {fit.alpha_c:.4g}", plot.COLOURS["black"])


def _collapse(fit: CriticalFit, ax: Any, x: Any, mean: Any) -> None:
    given = float(fit.details.get("given_zeta_over_nu", 0.0))
    theta = (
        fit.alpha_c or 0.0,
        fit.inverse_nu or 0.0,
        given if fit.zeta_over_nu is None else fit.zeta_over_nu,
    )
    scaled, values = scaled_curves(x, np.array(fit.sizes), mean, theta)
    correction = (fit.details.get("correction") or {}).get("value") or 0.0
    values = values / (1 + correction * fit.sizes[0] / np.array(fit.sizes)[:, None])
    for s, size in enumerate(fit.sizes):
        colour = _COLOURS[s % len(_COLOURS)]
        ax.plot(scaled[s], values[s], ".", markersize=3, color=colour, label=f"{fit.scale} = {size:g}")
    near = np.abs(scaled) <= np.abs(scaled[0]).max() * 2
    ax.set(
        xlim=(scaled[near].min(), scaled[near].max()),
        xlabel=f"(ratio - critical) {fit.scale}^(1/nu)",
        ylabel=f"{fit.observable} {fit.scale}^(-zeta/nu)",
        title=f"collapse: 1/nu = {theta[1]:.3f}, zeta/nu = {theta[2]:.3f}, S = {fit.quality or 0:.2f}",
    )


def _crossings(fit: CriticalFit, ax: Any, _x: Any, _mean: Any) -> None:
    for name, colour in (("binder", "blue"), ("second_moment", "orange")):
        rows = [row for row in fit.table if row[name]["value"] is not None]
        places = [1 / np.sqrt(row["size"] * row["next_size"]) for row in rows]
        _dots(ax, places, [row[name] for row in rows], name.replace("_", " "), plot.COLOURS[colour])
    if fit.ci[0] is not None and fit.ci[1] is not None:
        ax.axhspan(*fit.ci, color=plot.COLOURS["black"], alpha=0.12, linewidth=0)
    ax.set(
        xlabel=f"1 / {fit.scale} of the pair", ylabel="crossing ratio", title="crossings of successive sizes"
    )
    ax.legend()


def _places(fit: CriticalFit, ax: Any, _x: Any, _mean: Any) -> None:
    names = {"half": ("half_point",), "peak": ("derivative_peak", "fluctuation_peak")}[fit.method]
    for name, colour in zip(names, ("blue", "orange"), strict=False):
        rows = [row for row in fit.table if row[name]["value"] is not None]
        _dots(ax, [row["size"] for row in rows], [row[name] for row in rows], name, plot.COLOURS[colour])
    ax.set(xscale="log", xlabel=fit.scale, ylabel="ratio", title="place by size")
    ax.legend()


def _dots(
    ax: Any, places: list[float], found: list[dict[str, float | None]], label: str, colour: str
) -> None:
    values = [row["value"] or 0.0 for row in found]
    ends = [(row["low"], row["high"]) for row in found]
    errors = [
        [
            0.0 if end[side] is None else abs(value - (end[side] or 0.0))
            for value, end in zip(values, ends, strict=True)
        ]
        for side in (0, 1)
    ]
    ax.errorbar(
        places, values, errors, fmt="o", markersize=4, capsize=2, color=colour, label=label.replace("_", " ")
    )


def _counts(fit: CriticalFit, ax: Any) -> Figure:
    x = np.array(fit.ratios)
    ax.errorbar(
        x, fit.mean[0], fit.stderr[0], fmt="o", capsize=2, color=plot.COLOURS["blue"], label="measured"
    )
    fine = np.linspace(x[0], x[-1], 400)
    told = fit.details
    scale = (told["width"]["value"] or 1.0) / RISE
    rise = 1 / (1 + np.exp(-np.clip((fine - (fit.alpha_c or 0.0)) / scale, -500, 500)))
    rate = told["before"] + (told["after"] - told["before"]) * rise
    ax.plot(fine, rate, color=plot.COLOURS["orange"], label="logistic")
    _mark(ax, fit)
    p = told["p_gradual"]
    ax.set(xlabel="compression ratio", ylabel=fit.observable, title=f"{fit.verdict} (gradual: p = {p:.2g})")
    ax.legend()
    made: Figure = ax.figure
    return made
