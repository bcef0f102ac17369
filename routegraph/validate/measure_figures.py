"""Figure of a measurement: answers, tokens and routes of every policy against the ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph.validate.measured import KINDS, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"hallucination": "red", "accuracy": "blue", "abstention": "green"}
_TOKENS = {
    "ger_answer_model": ("black", "GER answer, all slots"),
    "ger_answer_layer": ("purple", "GER answer, by layer"),
    "ger_facts_layer": ("sky", "GER facts, by layer"),
    "alive_evidence": ("orange", "slots of the evidence alive"),
}
_ROUTES = {
    "reach_any_0.1": ("blue", "some answer token reached, weight > .1"),
    "reach_any_columns_0.1": ("sky", "the same, pruning columns"),
    "rollout_evidence": ("green", "rollout to the evidence left"),
    "lost_on_evidence": ("red", "attention on the evidence lost"),
    "hidden_drift": ("purple", "hidden-state drift, 1 - cosine"),
}


def plot_measured(found: Measured) -> Figure:
    """Draw every policy of a measurement, a row each; the ratio's axis is logarithmic in what is kept.

    Bands of answers are Wilson's 95 % intervals, those of metrics two standard errors over items.
    """
    with plot.style():
        made, axes = plot.figure(len(found.policies), 3, width=5.0, height=3.0)
        grid = np.reshape(axes, (len(found.policies), 3))
        for row, policy in zip(grid, found.policies, strict=True):
            _draw_answers(row[0], found, policy)
            _draw_metrics(row[1], found, policy, _TOKENS)
            _draw_metrics(row[2], found, policy, _ROUTES)
            for ax, what in zip(row, ("answers", "tokens", "routes and drift"), strict=True):
                _finish(ax, found, policy)
                ax.set_title(f"{policy}: {what}", loc="left")
        for ax in grid[0]:
            ax.legend(loc="best")
        aware = "question-aware" if found.settings["question_aware"] else "question-agnostic"
        made.suptitle(
            f"{found.settings['model']}, {len(found.ids)} items, {aware}; dotted: cliffs built in by protected rows",
            fontsize="medium",
            x=0.01,
            ha="left",
        )
    result: Figure = made
    return result


def _draw_answers(ax: Axes, found: Measured, policy: str) -> None:
    kept = 1 - found.ratios
    for kind in KINDS:
        rates = found.rates(kind, policy)
        (line,) = ax.plot(kept, rates.rate, marker=".", color=plot.COLOURS[_COLOURS[kind]], label=kind)
        ax.fill_between(kept, rates.low, rates.high, color=line.get_color(), alpha=0.2, linewidth=0)
    fitted = found.critical(policy)
    if fitted is not None and fitted.verdict == "cliff" and fitted.alpha_c is not None:
        low, high = fitted.ci
        span = None if low is None or high is None else (1 - high, 1 - low)
        plot.mark_critical(ax, 1 - fitted.alpha_c, span, "critical ratio", plot.COLOURS["black"])


def _draw_metrics(ax: Axes, found: Measured, policy: str, shown: dict[str, tuple[str, str]]) -> None:
    place = found.policies.index(policy)
    for name, (colour, label) in shown.items():
        curve = found.mean_of(found.metrics[name][:, place])
        mean, error = (np.array(curve[part], dtype=float) for part in ("mean", "stderr"))
        plot.band(ax, 1 - found.ratios, mean, 2 * error, color=plot.COLOURS[colour], marker=".", label=label)


def _finish(ax: Any, found: Measured, policy: str) -> None:
    for ratio in found.cliffs[policy].values():
        ax.axvline(1 - ratio, color="0.5", linewidth=1, linestyle=":")
    ax.set_xscale("log")
    ends = 1 - found.ratios
    ax.set_xlim(ends.max() * 1.05, ends.min() / 1.05)
    shown = [ratio for ratio in (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995) if ratio <= found.ratios[-1]]
    ax.set_xticks([1 - ratio for ratio in shown], [f"{ratio:g}" for ratio in shown])
    ax.minorticks_off()
    ax.set(ylim=(-0.02, 1.02), xlabel="compression ratio", ylabel="fraction")
