"""The result of `measure`: as numbers, in words, as a figure, as a folder of cells."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph import plot
from routegraph._version import __version__
from routegraph.files import digest
from routegraph.stats.intervals import Interval, interval_dict
from routegraph.tables import Page, Shown, many
from routegraph.text import drawn
from routegraph.validate.measure.answers import KINDS, LEAST, Answers
from routegraph.validate.measure.bits import bits_definitions, bytes_grid, bytes_share
from routegraph.validate.measure.cells import Cells, cliffs_of, read_cells, read_run, unsealed
from routegraph.validate.measure.decoded import decoded_definitions, decoded_grids, decoded_shares
from routegraph.validate.measure.metrics import METRICS
from routegraph.validate.measure.pairs import areas_dict, compared
from routegraph.validate.measure.reading import reading
from routegraph.validate.measure.schema import check_settings, columns, measured_cell
from routegraph.validate.measure.tables import measured_page
from routegraph.validate.quantise.precision import Precision

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Shown, Answers):
    """The result of `measure`: its numbers are those of `Answers`.

    Attributes
    ----------
    cells : tuple of mapping
        Of every item, as its file has it.
    names : tuple of str
        Of these files.
    """

    cells: tuple[Mapping[str, Any], ...] = ()
    names: tuple[str, ...] = ()

    @staticmethod
    def load(out: str | os.PathLike[str], skip_damaged: bool = False) -> Measured:
        """Read every cell of a folder that `measure` wrote, in this or an earlier version, sorted by the items' ids.

        skip_damaged: leave damaged cells out, each named by a warning, instead of stopping at the first.

        Raises
        ------
        ValueError
            If it is no such folder, holds no cell yet, or one is damaged.
        """
        settings = read_run(out)["settings"]
        check_settings(settings, f"run.json of {str(out)!r} is damaged")
        cells = read_cells(out, settings, measured_cell(settings), skip_damaged)
        return from_cells(settings, list(cells.values()), list(cells))

    def save(self, out: str | os.PathLike[str]) -> None:
        """Write the cells into a folder, as `measure` does; cells that are there already are left as they are.

        Raises
        ------
        ValueError
            If the folder holds something else, or what was measured with other settings.
        """
        kept = Cells.open(out, self.settings)
        for name, cell in zip(self.names, self.cells, strict=True):
            if kept.find(name) is None:
                kept.keep(name, unsealed(cell))

    def only(self, items: ArrayLike) -> Self:
        """Return what was measured of some items, bool[n_items] or their numbers; ValueError where there is none."""
        numbers = np.arange(len(self.ids))[np.asarray(items)]
        if not self.cells:
            return super().only(numbers)
        cells, names = (tuple(told[i] for i in numbers) for told in (self.cells, self.names))
        return replace(super().only(numbers), cells=cells, names=names)

    def page(self) -> Page:
        """Return answers at every ratio, critical ratios, and which metric tells the failing items."""
        page = measured_page(self)
        if self.decode_interval:
            return Page((*page.blocks, *decoded_grids(self, self.cells)))
        return Page((*page.blocks, bytes_grid(self, self.bytes))) if self.bits else page

    def brief(self) -> str:
        """Return what was asked, and how many items are right with nothing removed."""
        asked = (
            f"{self.settings['model']}, {many(len(self.ids), 'item')}, {', '.join(self.policies)} at "
            f"{many(len(self.ratios), 'ratio')}"
        )
        right, n = int(self.right[self.answerable, 0, 0].sum()), int(self.answerable.sum())
        return f"{asked}; {right} of {n} answerable right with nothing removed"

    @property
    def bytes(self) -> NDArray[np.float64]:
        """Bytes of the context's cache, of 1 at the reference, float64[n_policies, n_ratios].

        Only where bits were asked for; see `routegraph.validate.quantise.size`.
        """
        return bytes_share(self.cells, len(self.policies))

    def plot(self, ax: Any = None) -> Figure:
        """Draw answers, GER and routes of every policy against the ratio, built-in cliffs marked.

        ax : axes to draw on, three a policy; one where no metrics were measured.
        """
        return plot_measured(self, ax)

    def to_dict(self, resamples: int = 1000) -> dict[str, Any]:
        """Return everything but the single replies as JSON-ready values."""
        groups: list[str | None] = [None, *self.tasks] if len(self.tasks) > 1 else [None]
        return {
            "version": __version__,
            "seed": self.settings["seed"],
            "parameters": {
                **self.settings,
                "ratios": self.ratios.tolist(),
                "prompts": len(self.ids),
                "tasks": self.task_sizes,
            },
            "set_aside": [{"id": name, "why": why} for name, why in self.aside],
            "definitions": {
                **MEASURE_DEFINITIONS,
                **bits_definitions(self.bits),
                **(decoded_definitions() if self.decode_interval else {}),
                **{f"policy {name}": told for name, told in self.methods.items()},
                **{f"metric {k}": METRICS[k].meaning for k in self.metrics},
            },
            "answer": " ".join(reading(self)),
            "results": [self._curve_dict(policy, task) for policy in self.policies for task in groups],
            "policies": [pair.to_dict() for pair in compared(self)],
            "areas": areas_dict(self),
            "auc": [
                {
                    "policy": policy or "all",
                    "metric": row.metric,
                    "kind": METRICS[row.metric].kind,
                    "sign": METRICS[row.metric].sign,
                    **_auc_dict(row.auc),
                    "tells": row.tells,
                    "cells": row.cells,
                    "pairs": row.pairs,
                    "items": row.items,
                }
                for policy in [None, *self.policies]
                for row in self.auc_table(policy, resamples=resamples)
            ],
        }

    def _curve_dict(self, policy: str, task: str | None) -> dict[str, Any]:
        fitted = self.critical(policy, task)
        chosen = self.items_of(task)
        shown: dict[str, Any] = {
            "policy": policy,
            "task": task or "all",
            "structural_cliffs": self.cliffs[policy],
        }
        for kind in KINDS:
            found = self.rates(kind, policy, task)
            shown[kind] = (
                None
                if not found.trials
                else {
                    "counts": found.counts.tolist(),
                    "trials": found.trials,
                    "rate": found.rate.tolist(),
                    "low": found.low.tolist(),
                    "high": found.high.tolist(),
                }
            )
        if self.decode_interval:
            told = decoded_shares(self, [self.cells[i] for i in np.flatnonzero(chosen)])
            for name, rows in told.items():
                shown[name] = [interval_dict(one) for one in rows[self.place_of(policy)]]
        if self.bits:
            shown["bytes"] = self.bytes[self.place_of(policy)].tolist()
        shown["critical"] = None if fitted is None else fitted.to_dict()
        shown["metrics"] = {
            name: self.mean_of(values[chosen, self.place_of(policy)]) for name, values in self.metrics.items()
        }
        return shown


def _auc_dict(found: Interval) -> dict[str, float | None]:
    told = interval_dict(found)
    return {"auc": told["value"], "low": told["low"], "high": told["high"]}


MEASURE_DEFINITIONS = {
    "ratio": "fraction of cache rows the policy is asked to remove",
    "right": "by the grader that the settings name, and routegraph list tells of; where the context does not tell: the "
    "reply abstains",
    "abstained": "a phrase of routegraph.validate.graders.abstention.ABSTENTIONS in the first sentence, or the "
    "token <idk>",
    "accuracy": "right / asked",
    "wrong": "neither right nor abstained / asked; an empty reply counts. Earlier versions called it hallucination",
    "hallucination": "wrong, and the first sentence states a value of the right type that is not the answer, by what "
    "the task knows of its values / items of such tasks; a lower bound, null where no task knows",
    "abstention": "abstained / asked",
    "rate": "intervals are Wilson's, 95 %",
    "critical": "logistic in the ratio against line, parabola and constant, on the counts; interval by resampling "
    "items",
    "fails": "right at ratio 0 and not right at this ratio (an abstention fails, too); items not right at 0 are out",
    "auc": f"pairs of a failing and a holding item of one (policy, ratio, task), cells with at least {LEAST} of each, "
    "pooled by pairs; 95 % bootstrap over items; above .5: in the direction of `sign`. About one interval in 20 "
    "leaves out .5 by chance alone",
    "routes": "read edges of context and question prefilled with a full cache; from the row the first answer token is "
    "read from; pruning decode: only reads by rows after the context of dead slots are gone",
    "head_axis": "model: gone from all layers * KV heads; layer: gone from all heads of a layer, mean over layers",
    "question_aware": "the question stands in the context while rows are scored, its rows are cache rows, too, and it "
    "is asked again afterwards",
    "chat": "asked through the tokenizer's chat template: the context and the question are the user's turn, and what "
    "the template puts first is cache rows, too",
    "policies": "pairs on the items right at ratio 0: share still right of one minus that of two, mean over the ratios "
    "above 0 (bootstrap, random signs, Holm over pairs) and `at` each (Tango's interval, exact sign test, Holm over "
    "pairs times ratios); run: the most ratios in a row with one verdict, chosen after the fact",
    "areas": "area under the accuracy curve of all items over that of a curve at 1, straight lines between ratios; "
    "95 % bootstrap over items",
    "set_aside": "prompts that cannot be asked, or do not fit the model or a scorer",
}


def from_cells(
    settings: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], names: Sequence[str] = ()
) -> Measured:
    """Return the result that cells make up; `names`: of their files.

    Raises
    ------
    ValueError
        If there is none.
    """
    if not cells:
        raise ValueError("nothing has been measured yet: there is no cell")
    shape = (len(cells), len(settings["policies"]), columns(settings))
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
            if settings.get("metrics", True)
        },
        cliffs={policy: cliffs_of(cells, policy) for policy in settings["policies"]},
        prompts=tuple(prompts),
        cut=np.array([cell["cut"] for cell in cells], dtype=bool).reshape(shape)
        if all("cut" in cell for cell in cells)
        else None,
        dead=np.array([cell["dead"] for cell in cells], dtype=float).reshape(shape)
        if "decode_budget" in settings
        else None,
        cells=tuple(cells),
        names=tuple(names) or tuple(digest(cell["prompt"]) for cell in cells),
    )


_COLOURS = {"wrong": "red", "hallucination": "orange", "accuracy": "blue", "abstention": "green"}


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


def plot_measured(found: Measured, axes: Any = None) -> Figure:
    """Draw every policy of a measurement, a row each; the ratio's axis is logarithmic in what is kept.

    Bands of answers are Wilson's 95 % intervals, those of metrics two standard errors over items. Without metrics there
    is one panel a policy.
    """
    panels = ("answers", "tokens", "routes and drift") if found.metrics else ("answers",)
    with plot.style():
        if axes is None:
            _, axes = plot.figure(len(found.policies), len(panels), width=5.0, height=3.0)
        made: Figure = np.ravel(axes)[0].figure
        grid = np.reshape(axes, (len(found.policies), len(panels)))
        for row, policy in zip(grid, found.policies, strict=True):
            _draw_answers(row[0], found, policy)
            for ax, names in zip(row[1:], (_TOKENS, _ROUTES), strict=False):
                _draw_metrics(ax, found, policy, names)
            for ax, what in zip(row, panels, strict=True):
                _finish(ax, found, policy)
                ax.set_title(f"{drawn(policy)}: {what}", loc="left")
        plot.legend(*grid[-1])
        aware = "question-aware" if found.settings["question_aware"] else "question-agnostic"
        bits = f", bits {Precision.named(found.bits).name} but for the first" if found.bits else ""
        plot.headline(
            made,
            f"{drawn(found.settings['model'])}{bits}, {many(len(found.ids), 'item')}, {aware}; dotted: cliffs built in "
            "by protected rows",
        )
    return made


def _draw_answers(ax: Axes, found: Measured, policy: str) -> None:
    kept = 1 - found.ratios
    for kind in KINDS:
        rates = found.rates(kind, policy)
        if not rates.trials:
            continue
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
