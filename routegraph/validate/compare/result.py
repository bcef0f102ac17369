"""The result of a comparison: in words, as a figure, as a dictionary."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph._version import __version__
from routegraph.choices import PRUNING
from routegraph.critical.points import half_point
from routegraph.stats import intervals
from routegraph.stats.intervals import Interval, standard_error
from routegraph.validate.compare import failure
from routegraph.validate.compare.failure import KINDS, Failure
from routegraph.validate.compare.prediction import JUDGED, AxisComparison, Curve
from routegraph.validate.compare.reach import EPS, QUERIES, TOKENS, ReachComparison
from routegraph.validate.compare.simulated import draws_per_prompt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def half_points(found: PolicyComparison) -> Iterator[tuple[str, str, str, Interval]]:
    """Yield (quantity, tokens, source, half point) of all that was read off, simulated and predicted.

    Read off: of all prompts (tokens gone) or of the held-out ones (reach); simulated and theory: for the held-out
    ones. Intervals are by bootstrap over those prompts.
    """
    for over, axis in found.axes.items():
        where = "gone, all slots" if over == "model" else "gone, a layer"
        for observed, tokens, names in (
            ("answer tokens", "answer", ("simulated answers", "shifted copula")),
            ("evictable tokens", "evictable", ("simulated", "measured copula")),
        ):
            if observed in axis.observed:
                yield where, tokens, "read off", half_point(axis.ratios, axis.observed[observed])
                for source, name in zip(("simulated", "theory"), names, strict=True):
                    yield where, tokens, source, half_point(axis.ratios, axis.predicted[name].curves)
    for reach in found.reach:
        where = f"reach, {reach.prune}, weight > {reach.eps:g}"
        tokens = reach.tokens.removesuffix(" tokens")
        yield where, tokens, "read off", half_point(reach.ratios, reach.observed)
        for source, name in (("simulated", "simulated"), ("theory", "cavity")):
            if name in reach.predicted:
                yield where, tokens, source, half_point(reach.ratios, reach.predicted[name].curves)


def to_html(policies: Iterable[PolicyComparison]) -> str:
    """Return all half points, and the measured ratios above them, as one HTML table a policy."""
    parts = []
    for found in policies:
        rows = (
            []
            if found.measured is None
            else [
                ("measured", f"{kind} ({found.measured.verdict})" if kind == KINDS[0] else kind, "", ratio)
                for kind in KINDS
                for ratio in [found.measured.critical(kind)]
            ]
        )
        lines = "".join(
            f"<tr><td>{html.escape(source)}</td><td>{html.escape(f'{quantity} {tokens}'.strip())}</td>"
            f"<td>{_told(ratio)}</td></tr>"
            for source, quantity, tokens, ratio in [
                *rows,
                *((source, quantity, tokens, half) for quantity, tokens, source, half in half_points(found)),
            ]
        )
        head = "<tr><th>source</th><th>quantity</th><th>half point or critical ratio, 95 %</th></tr>"
        parts.append(f"<table><caption>{html.escape(found.policy)}</caption>{head}{lines}</table>")
    return "".join(parts)


def _told(found: Interval) -> str:
    if np.isnan(found.value):
        return "-"
    low, high = ("?" if np.isnan(end) else f"{end:.3f}" for end in found[1:])
    return f"{found.value:.3f} [{low}, {high}]"


@dataclass(frozen=True, eq=False)
class PolicyComparison:
    """One policy on both head axes, its reach, and the cliffs that its code builds in.

    Attributes
    ----------
    policy, scorer : str
    axes : dict of head axis to AxisComparison
    cliffs : dict of str to float
    reach : list of ReachComparison
        Empty where the traces hold no graphs.
    measured : Failure or None
        Where answers fail; None where that was not measured.
    """

    policy: str
    scorer: str
    axes: dict[str, AxisComparison]
    cliffs: dict[str, float] = field(default_factory=dict)
    reach: list[ReachComparison] = field(default_factory=list)
    measured: Failure | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `compare`."""

    model: str
    n_prompts: int
    n_context: tuple[int, int]
    ratios: Curve
    seed: int
    policies: dict[str, PolicyComparison]
    eps: tuple[float, ...] = EPS
    question_aware: bool = False
    has_measured: bool = False

    @property
    def has_reach(self) -> bool:
        """Whether the traces hold the graphs that reach is read off from."""
        return any(found.reach for found in self.policies.values())

    def _repr_html_(self) -> str:
        return to_html(self.policies.values())

    def plot(self) -> Figure:
        """Draw every policy, a row each."""
        return plot_comparisons(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-ready values."""
        return {
            "version": __version__,
            "seed": self.seed,
            "parameters": {
                "model": self.model,
                "prompts": self.n_prompts,
                "n_context": list(self.n_context),
                "ratios": intervals.listed(self.ratios),
                "policies": list(self.policies),
                "replicates": draws_per_prompt(self.n_prompts // 2),
                "eps": list(self.eps),
                "queries": QUERIES,
                "question_aware": self.question_aware,
            },
            "definitions": DEFINITIONS,
            "results": [
                {
                    "policy": found.policy,
                    "scorer": found.scorer,
                    "structural_cliffs": found.cliffs,
                    "axes": [axis.to_dict() for axis in found.axes.values()],
                    "reach": [reach.to_dict() for reach in found.reach],
                    "measured": None
                    if found.measured is None
                    else found.measured.to_dict(half_points(found)),
                }
                for found in self.policies.values()
            ],
        }


DEFINITIONS = {
    "ratio": "fraction of cache rows the policy is asked to remove",
    "gone": "fraction of evictable rows (not protected as sinks by the scorer) really gone from a slot",
    "all tokens": "eviction rate: fraction of all context tokens gone from every slot of the head axis",
    "answer tokens": "GER: the same over the tokens of the answer spans",
    "evictable tokens": "the same over tokens that no scorer protects, prompts held out from fitting",
    "head_axis": "model: gone from all layers * heads slots; layer: gone from all heads of a layer, averaged "
    "over layers",
    "sink": "protected rows (sinks) are out of 'evictable tokens' and of every prediction, in for 'all tokens'",
    "independent": "p**M with p = gone",
    "one factor": "Gaussian one-factor copula, rho fitted on the training half of the prompts at every other "
    "ratio",
    "measured copula": "Gaussian copula with the correlation of the slots' normal scores measured on the "
    "training half; nothing fitted to GER",
    "shifted copula": "the same for answer tokens, each slot's scores shifted by the mean normal score of the "
    "training half's answer tokens",
    "simulated": "drawn from what was fitted to the training half: scores from the field of profile 'trace', reads "
    "from the ensemble 'empirical', the same policy and protected rows; every simulated prompt has the length of a "
    "held-out one, and its answer tokens, shifted as the training half's are",
    "uniform": "the same policy and protected rows on the default ensemble: independent scores, every (layer, KV "
    "head, token) reads one key uniformly from its past",
    "reach": "fraction of tokens that a surviving route of reads heavier than eps joins to the last token of the "
    "prompt at the top layer; residual edges carry tokens down, sinks are in",
    "eps": "attention weight above which a read is an edge, in what is read off and in what is fitted",
    "prune": "columns: all tokens of the prompt are cache rows, an edge is gone when the slot it reads is dead; "
    f"decode: the last {QUERIES} tokens (a quarter of a shorter prompt) stand for the question, the rows before "
    "them are the cache, and only edges from those queries into dead slots are gone",
    "cavity": "mean field for independent slots and uniform reads, as many a (layer, KV head, token) as the training "
    "half makes; columns and all context tokens only",
    "minus_read_off": "predicted minus read-off half point, prompts resampled in pairs",
    "replicates": "simulated prompts for each held-out prompt",
    "rmse": f"over ratios {JUDGED[0]} to {JUDGED[1]} not used for fitting, against held-out prompts",
    "intervals": "95 %, bootstrap over prompts",
    **failure.DEFINITIONS,
}


_LINES: dict[str, dict[str, Any]] = {
    "independent": {"color": plot.COLOURS["red"], "linestyle": ":"},
    "one factor": {"color": plot.COLOURS["orange"], "linestyle": "-."},
    "measured copula": {"color": plot.COLOURS["blue"], "linestyle": "-"},
    "simulated": {"color": plot.COLOURS["green"], "linestyle": "--"},
    "uniform": {"color": "0.5", "linestyle": (0, (1, 3))},
}


_TITLES = {"model": "gone from all {slots} slots", "layer": "gone from all {slots} heads of a layer (mean)"}


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
        panels[0].legend(loc="upper left", frameon=found.measured is not None, framealpha=0.8)
        if found.reach:
            for ax, prune in zip(panels[2:], PRUNING, strict=True):
                _draw_reach(ax, found, prune)
            panels[2].legend(loc="lower left")
        made: Figure = panels[0].figure
        made.suptitle(
            f"{model}, policy {found.policy} on {found.scorer}", fontsize="medium", x=0.01, ha="left"
        )
    return made


def plot_comparisons(result: Comparison) -> Figure:
    """Draw every policy of a comparison, a row each."""
    with plot.style():
        made, axes = plot.figure(len(result.policies), 4 if result.has_reach else 2, width=5.6)
    rows = np.atleast_2d(axes)
    for found, panels in zip(result.policies.values(), rows, strict=True):
        plot_comparison(found, result.model, panels)
        for ax in panels:
            ax.set_title(f"{found.policy}: {ax.get_title(loc='left')}", loc="left")
    made.suptitle(
        f"{result.model}: {result.n_prompts // 2} held-out prompts of {result.n_context[0]} to {result.n_context[1]} "
        "tokens; dots are read off, bands two standard errors over prompts",
        fontsize="medium",
        x=0.01,
        ha="left",
    )
    return made


def _draw_reach(ax: Axes, found: PolicyComparison, prune: str) -> None:
    """Draw reach of all context tokens under one pruning, a colour a threshold."""
    shown = [reach for reach in found.reach if reach.prune == prune and reach.tokens == TOKENS[0]]
    for reach, name in zip(shown, _EPS_COLOURS, strict=False):
        colour = plot.COLOURS[name]
        error = 2 * standard_error(reach.observed)
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
    read = axis.observed["evictable tokens"]
    error = 2 * standard_error(read)
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
            ratio, color="0.7", linewidth=1, linestyle=(0, (1, 2 + 2 * number)), label=f"cliff: {name}"
        )
    ax.set(
        xlim=(0.3, 1),
        ylim=(-0.02, 1.02),
        xlabel="compression ratio",
        ylabel="fraction of tokens gone" + (", of items" if found.measured is not None else ""),
    )
    ax.set_title(_title(found, over), loc="left")


def _draw_failures(ax: Axes, measured: Failure) -> None:
    """Draw measured hallucination and lost answers with their bands, and the critical ratio with its interval."""
    red, brown, rates = plot.COLOURS["red"], plot.COLOURS["orange"], measured.hallucination
    ax.plot(measured.ratios, rates.rate, "s-", color=red, ms=4, label="measured hallucination, items")
    ax.fill_between(measured.ratios, rates.low, rates.high, color=red, alpha=0.15, linewidth=0)
    if len(measured.kept):
        error = 2 * standard_error(measured.kept)
        lost = 1 - measured.kept.mean(axis=0)
        look = {"color": brown, "marker": "^", "markersize": 4, "label": "measured right answers lost, items"}
        plot.band(ax, measured.ratios, lost, error, **look)
    ratio = measured.critical("hallucination")
    if np.isfinite(ratio.value):
        way = "up" if measured.rises else "down"
        ax.axvline(
            ratio.value, color=red, linewidth=1, label=f"its critical ratio: {measured.verdict}, {way}"
        )
        if np.isfinite(ratio.low) and np.isfinite(ratio.high):
            ax.axvspan(ratio.low, ratio.high, color=red, alpha=0.08, linewidth=0)


def _title(found: PolicyComparison, over: str) -> str:
    return _TITLES[over].format(slots=found.axes[over].slots)
