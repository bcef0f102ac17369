"""What was measured: curves with intervals, critical ratios, and which metric tells the failing items."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph import plot
from routegraph._version import __version__
from routegraph.critical.fit import CriticalFit, fit_critical
from routegraph.protection import Protection, structural_cliffs
from routegraph.stats.auc import Auc, pooled_auc
from routegraph.stats.proportions import wilson
from routegraph.validate.measure.cells import read_cell, read_run
from routegraph.validate.measure.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: What is counted, and of which the curves are.
KINDS = ("accuracy", "hallucination", "abstention")


#: A cell of the AUC needs so many items that fail, and so many that do not.
LEAST = 5


@dataclass(frozen=True, eq=False)
class Rates:
    """Counts at every ratio, with Wilson's 95 % intervals.

    Attributes
    ----------
    counts : int64[n_ratios]
    trials : int
    rate, low, high : float64[n_ratios]
    """

    counts: NDArray[np.int64]
    trials: int
    rate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """The result of `measure`.

    Attributes
    ----------
    settings : mapping
        Model, policies, ratios and all else that the figures depend on.
    ids, item_tasks : tuple of str
        Of every item.
    n_context : int64[n_items]
    answerable : bool[n_items]
        Whether the context tells the answer; where it does not, an abstention is right.
    tags : tuple of tuple of str
        Direction, type of the answer, difficulty: whatever the task says of its items.
    right, abstained : bool[n_items, n_policies, n_ratios]
    replies : tuple of tuple of str
        Of every item, policies outermost.
    metrics : mapping of str to float64[n_items, n_policies, n_ratios]
        See `METRICS`; NaN where an item has none.
    cliffs : mapping of policy to mapping of str to float
        Ratios at which the code of a policy, not physics, builds in a cliff.
    """

    settings: Mapping[str, Any]
    ids: tuple[str, ...]
    item_tasks: tuple[str, ...]
    n_context: NDArray[np.int64]
    answerable: NDArray[np.bool_]
    tags: tuple[tuple[str, ...], ...]
    right: NDArray[np.bool_]
    abstained: NDArray[np.bool_]
    replies: tuple[tuple[str, ...], ...]
    metrics: Mapping[str, NDArray[np.float64]]
    cliffs: Mapping[str, Mapping[str, float]]

    @staticmethod
    def load(out: str | os.PathLike[str]) -> Measured:
        """Read every cell of a folder that `measure` wrote, in the order of the items' ids.

        Raises
        ------
        ValueError
            If it is no such folder, holds no cell yet, or one is damaged.
        """
        settings = read_run(out)["settings"]
        cells = [read_cell(path, settings) for path in sorted((Path(out) / "cells").glob("*.json"))]
        return from_cells(settings, sorted(cells, key=lambda cell: str(cell["prompt"]["id"])))

    def only(self, items: ArrayLike) -> Measured:
        """Return what was measured of some items, bool[n_items] or their numbers; ValueError where there is none."""
        numbers = np.arange(len(self.ids))[np.asarray(items)]
        if not numbers.size:
            raise ValueError("no item is left")
        return replace(
            self,
            ids=tuple(self.ids[i] for i in numbers),
            item_tasks=tuple(self.item_tasks[i] for i in numbers),
            n_context=self.n_context[numbers],
            answerable=self.answerable[numbers],
            tags=tuple(self.tags[i] for i in numbers),
            right=self.right[numbers],
            abstained=self.abstained[numbers],
            replies=tuple(self.replies[i] for i in numbers),
            metrics={name: values[numbers] for name, values in self.metrics.items()},
        )

    @property
    def policies(self) -> list[str]:
        """Names of the policies, as asked for."""
        return list(self.settings["policies"])

    @property
    def ratios(self) -> NDArray[np.float64]:
        """Sorted compression ratios, the first one 0."""
        return np.array(self.settings["ratios"], dtype=float)

    @property
    def tasks(self) -> list[str]:
        """Tasks, in the order in which they first come."""
        return list(dict.fromkeys(self.item_tasks))

    def of(self, kind: str) -> NDArray[np.bool_]:
        """Return which replies count for "accuracy", "hallucination" or "abstention", [items, policies, ratios]."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; choose from: {', '.join(KINDS)}")
        if kind == "hallucination":
            return np.asarray(~(self.right | self.abstained))
        return self.right if kind == "accuracy" else self.abstained

    def rates(self, kind: str, policy: str, task: str | None = None) -> Rates:
        """Return a curve of one policy; of the items of one task, where named."""
        table = self.of(kind)[self._items(task), self._policy(policy)]
        counts, trials = table.sum(axis=0), len(table)
        low, high = wilson(counts, np.full(len(counts), trials))
        return Rates(counts, trials, counts / trials, low, high)

    def critical(
        self, policy: str, task: str | None = None, kind: str = "hallucination", seed: int = 0
    ) -> CriticalFit | None:
        """Fit a cliff and gradual changes to a curve; None where all rates are equal or ratios too few."""
        found = self.rates(kind, policy, task)
        if len(self.ratios) < 4 or np.ptp(found.counts) == 0:
            return None
        return fit_critical(
            self.ratios,
            found.counts,
            trials=np.full(len(self.ratios), found.trials),
            seed=seed,
            observable=f"{kind}, {policy}, {task or 'all tasks'}",
        )

    @cached_property
    def fails(self) -> NDArray[np.bool_]:
        """Which items are right at ratio 0 and not right at this one, bool[n_items, n_policies, n_ratios]."""
        return np.asarray(self.right[..., :1] & ~self.right)

    def auc_table(
        self,
        policy: str | Sequence[str] | None = None,
        least: int = LEAST,
        resamples: int = 1000,
        seed: int = 0,
    ) -> list[Auc]:
        """Return, for every metric, how well it tells the items that fail; see `routegraph.stats.auc`.

        Parameters
        ----------
        policy : str or sequence of str, optional
            Cells of this policy, or of these, only.
        least : int
            See `pooled_auc`.
        resamples, seed : int
            Bootstrap over items.
        """
        named = self.policies if policy is None else [policy] if isinstance(policy, str) else list(policy)
        chosen = {self._policy(name) for name in named}
        return [
            pooled_auc(
                name,
                self._cells(METRICS[name].sign * values, chosen),
                len(self.ids),
                least=least,
                resamples=resamples,
                seed=seed,
            )
            for name, values in self.metrics.items()
        ]

    def to_dict(self, resamples: int = 1000) -> dict[str, Any]:
        """Return everything but the single replies as JSON-ready values."""
        groups: list[str | None] = [None, *self.tasks] if len(self.tasks) > 1 else [None]
        return {
            "version": __version__,
            "seed": self.settings["seed"],
            "parameters": {**self.settings, "prompts": len(self.ids), "tasks": self._task_sizes()},
            "definitions": {**DEFINITIONS, **{f"metric {k}": m.meaning for k, m in METRICS.items()}},
            "results": [self._curve_dict(policy, task) for policy in self.policies for task in groups],
            "auc": [
                {
                    "policy": policy or "all",
                    "metric": row.metric,
                    "kind": METRICS[row.metric].kind,
                    "sign": METRICS[row.metric].sign,
                    **_interval_dict(row.auc._asdict()),
                    "tells": row.tells,
                    "cells": row.cells,
                    "pairs": row.pairs,
                    "items": row.items,
                }
                for policy in [None, *self.policies]
                for row in self.auc_table(policy, resamples=resamples)
            ],
        }

    def plot(self) -> Figure:
        """Draw hallucination, GER and routes of every policy against the ratio, built-in cliffs marked."""
        return plot_measured(self)

    def _curve_dict(self, policy: str, task: str | None) -> dict[str, Any]:
        fitted = self.critical(policy, task)
        chosen = self._items(task)
        shown: dict[str, Any] = {
            "policy": policy,
            "task": task or "all",
            "structural_cliffs": self.cliffs[policy],
        }
        for kind in KINDS:
            found = self.rates(kind, policy, task)
            shown[kind] = {
                "counts": found.counts.tolist(),
                "trials": found.trials,
                "rate": found.rate.tolist(),
                "low": found.low.tolist(),
                "high": found.high.tolist(),
            }
        shown["critical"] = None if fitted is None else fitted.to_dict()
        shown["metrics"] = {
            name: self.mean_of(values[chosen, self._policy(policy)]) for name, values in self.metrics.items()
        }
        return shown

    @staticmethod
    def mean_of(values: NDArray[np.float64]) -> dict[str, Any]:
        """Return mean, standard error and number of items at every ratio; None where no item has a value."""
        n = np.isfinite(values).sum(axis=0)
        mean = np.where(n > 0, np.nansum(values, axis=0) / np.maximum(n, 1), np.nan)
        spread = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / np.maximum(n - 1, 1) / np.maximum(n, 1))
        return {
            "mean": [_number(value) for value in mean],
            "stderr": [_number(value) for value in np.where(n > 1, spread, np.nan)],
            "items": n.tolist(),
        }

    def _cells(
        self, values: NDArray[np.float64], chosen: set[int]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]]:
        """Yield the items right at ratio 0 in every cell: their numbers, values, and whether they fail."""
        known = self.right[:, 0, 0]  # at ratio 0 all policies keep everything
        for task in self.tasks:
            items = np.flatnonzero(known & self._items(task))
            for p in sorted(chosen):
                for r in range(1, len(self.ratios)):
                    yield items, values[items, p, r], self.fails[items, p, r]

    def _items(self, task: str | None) -> NDArray[np.bool_]:
        if task is not None and task not in self.item_tasks:
            raise ValueError(f"unknown task {task!r}; choose from: {', '.join(self.tasks)}")
        return np.array([task in (None, own) for own in self.item_tasks])

    def _policy(self, policy: str) -> int:
        if policy not in self.policies:
            raise ValueError(f"unknown policy {policy!r}; choose from: {', '.join(self.policies)}")
        return self.policies.index(policy)

    def _task_sizes(self) -> dict[str, int]:
        return {task: self.item_tasks.count(task) for task in self.tasks}


DEFINITIONS = {
    "ratio": "fraction of cache rows the policy is asked to remove",
    "right": "the first line of the reply starts with the answer, after normalisation (case, punctuation, articles, "
    "white space); where the context does not tell: the reply abstains",
    "abstained": "a phrase of routegraph.validate.prompts.verdict.ABSTENTIONS in the first sentence, or the "
    "token <idk>",
    "accuracy": "right / asked",
    "hallucination": "neither right nor abstained / asked; an empty reply counts",
    "abstention": "abstained / asked",
    "rate": "intervals are Wilson's, 95 %",
    "critical": "logistic in the ratio against line, parabola and constant, on the counts; profile-likelihood interval",
    "fails": "right at ratio 0 and not right at this ratio (an abstention fails, too); items not right at 0 are out",
    "auc": f"pairs of a failing and a holding item of one (policy, ratio, task), cells with at least {LEAST} of each, "
    "pooled by pairs; 95 % bootstrap over items; above .5: in the direction of `sign`. About one interval in 20 "
    "leaves out .5 by chance alone",
    "routes": "read edges of context and question prefilled with a full cache; from the row the first answer token is "
    "read from; pruning decode: only reads by rows after the context of dead slots are gone",
    "head_axis": "model: gone from all layers * KV heads; layer: gone from all heads of a layer, mean over layers",
    "question_aware": "scores know the question, and its rows are cache rows, too",
}


def from_cells(settings: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> Measured:
    """Return the result that cells make up.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not cells:
        raise ValueError("nothing has been measured yet: there is no cell")
    shape = (len(cells), len(settings["policies"]), len(settings["ratios"]))
    prompts = [cell["prompt"] for cell in cells]
    unknown = np.full(shape[1:], np.nan)  # of a metric that an earlier version did not measure
    return Measured(
        settings=settings,
        ids=tuple(str(prompt["id"]) for prompt in prompts),
        item_tasks=tuple(str(prompt["task"]) for prompt in prompts),
        n_context=np.array([prompt["n_context"] for prompt in prompts], dtype=np.int64),
        answerable=np.array([prompt["answerable"] for prompt in prompts], dtype=bool),
        tags=tuple(tuple(prompt.get("tags", ())) for prompt in prompts),
        right=np.array([cell["right"] for cell in cells], dtype=bool).reshape(shape),
        abstained=np.array([cell["abstained"] for cell in cells], dtype=bool).reshape(shape),
        replies=tuple(tuple(cell["replies"]) for cell in cells),
        metrics={
            name: np.array([cell["metrics"].get(name, unknown) for cell in cells], dtype=float).reshape(shape)
            for name in METRICS
        },
        cliffs={policy: _cliffs(cells, policy) for policy in settings["policies"]},
    )


def _cliffs(cells: Sequence[Mapping[str, Any]], policy: str) -> dict[str, float]:
    """Return the ratios at which a policy's protected rows fill its budget."""
    protections = [Protection.of(cell["protected"][policy]) for cell in cells]
    return structural_cliffs(protections, [int(cell["prompt"]["n_context"]) for cell in cells])


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _interval_dict(parts: Mapping[str, float]) -> dict[str, float | None]:
    names = {"value": "auc", "low": "low", "high": "high"}
    return {names[name]: _number(value) for name, value in parts.items()}


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
