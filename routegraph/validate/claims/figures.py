"""The paper's main figures in our version: answers and GER against the ratio, consensus by depth, eviction rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph.text import drawn
from routegraph.trace import Trace
from routegraph.validate.claims.case import Array
from routegraph.validate.claims.items import BASELINE, PAPER_POLICIES, label, standing
from routegraph.validate.claims.traces import RATE_RATIOS, eviction_rates
from routegraph.validate.measure.result import Measured
from routegraph.validate.traces.structure import by_layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"chunk": "blue", "adakv": "red", BASELINE: "black"}
_SHOWN = (0, 0.5, 0.8, 0.9, 0.95, 0.99)


def plot_claims(measured: Sequence[Measured], width: float = 4.4, height: float = 2.8) -> Figure:
    """Draw, a row a measurement, what became of the items right at ratio 0: still right, wrong, and their GER.

    Items of groups above the floor; of a measurement at floor all answerable ones, which its title says. Bands:
    Wilson's 95 % intervals; for GER two standard errors over items. Dotted: cliffs that code builds in. `width` and
    `height` are those of a panel, in inches.
    """
    shown = [found for found in measured if found.answerable.any()]
    if not shown:
        raise ValueError("no measurement has answerable items: there is nothing to draw")
    with plot.style():
        made, axes = plot.figure(len(shown), 3, width=width, height=height)
        for row, found in zip(np.reshape(axes, (len(shown), 3)), shown, strict=True):
            right = standing(found).right
            known = found.only(found.answerable) if right is None else right
            for policy in [name for name in _COLOURS if name in found.policies]:
                for ax, kind in zip(row, ("accuracy", "wrong"), strict=False):
                    _draw_rate(ax, known, kind, policy)
                _draw_ger(row[2], known, policy)
            for ax, what in zip(row, ("share still right", "share wrong", "GER of the answer"), strict=True):
                _finish(ax, found)
                ax.set(ylabel=what)
            what = "answerable items, at floor" if right is None else "items right at 0"
            row[0].set_title(f"{drawn(label(found))}, {len(known.ids)} {what}", loc="left")
            plot.legend(row[0])
            row[2].set_title("solid: all slots; dashed: by layer", loc="left")
    result: Figure = made
    return result


def claims_words(measured: Sequence[Measured]) -> list[tuple[str, str]]:
    """Return, for every panel of `plot_claims`, what it shows and what is to be seen, in words."""
    told = []
    for found in measured:
        if not found.answerable.any():
            continue
        right = standing(found).right
        known = found.only(found.answerable) if right is None else right
        policies = [name for name in _COLOURS if name in found.policies]
        for kind, what in (("accuracy", "still right"), ("wrong", "wrong")):
            rates = {name: known.rates(kind, name).rate for name in policies}
            told.append((_panel_title(found, f"fraction of replies {what}"), _ends(found, rates)))
        curves = {
            name: np.array(known.mean_of(values[:, found.place_of(name)])["mean"], dtype=float)
            for name in policies
            if (values := found.metrics.get("ger_answer_layer")) is not None
        }
        title = _panel_title(found, "GER of the answer's tokens, over all slots and by layer")
        told.append((title, f"By layer: {_ends(found, curves)}" if curves else "It was not measured."))
    return told


def _panel_title(found: Measured, what: str) -> str:
    return f"{label(found)}: {what}, by compression ratio"


def _ends(found: Measured, curves: Mapping[str, Array]) -> str:
    """Return the first, the middle and the last value of curves, in words."""
    last = len(found.ratios) - 1
    at = list(dict.fromkeys((0, last // 2, last)))
    told = [
        f"{name} {', '.join(f'{curve[k]:.2f} at ratio {found.ratios[k]:g}' for k in at)}"
        for name, curve in curves.items()
    ]
    return f"{'; '.join(told) or 'nothing'}."


def _draw_rate(ax: Axes, found: Measured, kind: str, policy: str) -> None:
    rates = found.rates(kind, policy)
    colour = plot.COLOURS[_COLOURS[policy]]
    ax.plot(1 - found.ratios, rates.rate, marker=".", color=colour, label=policy)
    ax.fill_between(1 - found.ratios, rates.low, rates.high, color=colour, alpha=0.15, linewidth=0)
    for cliff in set(found.cliffs[policy].values()):
        ax.axvline(1 - cliff, color=colour, linewidth=1, linestyle=":")


def _draw_ger(ax: Axes, found: Measured, policy: str) -> None:
    place = found.policies.index(policy)
    for axis, style in (("model", "-"), ("layer", "--")):
        values = found.metrics.get(f"ger_answer_{axis}")
        if values is None:
            continue
        curve = found.mean_of(values[:, place])
        mean, error = (np.array(curve[part], dtype=float) for part in ("mean", "stderr"))
        colour = plot.COLOURS[_COLOURS[policy]]
        look = {"linestyle": style, "marker": ".", "label": policy if axis == "model" else None}
        plot.band(ax, 1 - found.ratios, mean, 2 * error, color=colour, **look)


def _finish(ax: Any, found: Measured) -> None:
    ax.set_xscale("log")
    kept = 1 - found.ratios
    ax.set_xlim(kept.max() * 1.05, kept.min() / 1.05)
    shown = [ratio for ratio in _SHOWN if ratio <= found.ratios[-1] + 1e-9]
    ax.set_xticks([1 - ratio for ratio in shown], [f"{ratio:g}" for ratio in shown])
    ax.minorticks_off()
    ax.set(ylim=(-0.02, 1.02), xlabel="compression ratio")


def plot_traces(runs: Sequence[Sequence[Trace]]) -> Figure:
    """Draw, a row a run, consensus by depth and the eviction rate by task; bands: two standard errors over prompts."""
    with plot.style():
        made, axes = plot.figure(len(runs), 3, width=4.4, height=2.8)
        for row, traces in zip(np.reshape(axes, (len(runs), 3)), runs, strict=True):
            _draw_depth(row[0], traces)
            for ax, policy in zip(row[1:], PAPER_POLICIES, strict=True):
                _draw_eviction(ax, traces, policy)
    result: Figure = made
    return result


def _draw_depth(ax: Axes, traces: Sequence[Trace]) -> None:
    ax.set_title(f"{drawn(traces[0].model)}, {len(traces)} prompts", loc="left")
    ax.set(xlabel="layer", ylabel="consensus", ylim=(0, 1.02))
    if any(trace.tops is None or trace.tops_without_sink is None for trace in traces):
        return
    found = [by_layer(trace) for trace in traces]
    for name, colour in (("consensus", "blue"), ("consensus without sink", "orange")):
        _band(
            ax,
            np.arange(1.0, traces[0].n_layers + 1),
            np.array([curves[name] for curves in found]),
            colour,
            name,
        )
    plot.legend(ax)


def _draw_eviction(ax: Axes, traces: Sequence[Trace], policy: str) -> None:
    ax.set_title(f"{policy}, by task; solid: all slots; dashed: by layer", loc="left")
    ax.set(xlabel="compression ratio", ylabel="eviction rate", ylim=(-0.02, 1.02))
    rates = eviction_rates(traces, policy)
    if rates is None:
        return
    ax.plot(RATE_RATIOS, RATE_RATIOS, color="0.6", linewidth=1, label="the ratio itself")
    tasks = [trace.task for trace in traces]
    colours = [name for name in plot.COLOURS if name != "yellow"]
    for k, task in enumerate(dict.fromkeys(tasks)):
        own = np.array([name == task for name in tasks])
        for axis, style in (("model", "-"), ("layer", "--")):
            name = drawn(task or "all") if axis == "model" else ""
            _band(ax, RATE_RATIOS, rates[axis][own], colours[k % len(colours)], name, style)
    plot.legend(ax)


def _band(ax: Axes, x: Array, rows: Array, colour: str, name: str = "", style: str = "-") -> None:
    error = 2 * rows.std(axis=0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else None
    plot.band(
        ax, x, rows.mean(axis=0), error, color=plot.COLOURS[colour], label=name or None, linestyle=style
    )
