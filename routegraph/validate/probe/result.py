"""The result of linear probes: as numbers, in words, as a figure, as a file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph._version import __version__
from routegraph.files import read_result, write_json
from routegraph.stats.intervals import Interval, interval_dict, interval_of
from routegraph.stats.proportions import wilson
from routegraph.tables import Grid, Page, Shown, many, note, points, signed, words
from routegraph.text import drawn
from routegraph.validate.eviction import legend
from routegraph.validate.probe.fit import FOLDS, INNER, STRENGTHS, Probe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FEATURES = ("hidden", "cache")


#: What a probe is to tell.
TARGETS = {
    "type": "type of the answer, by the prompt's tags; of tasks of words: which attribute it is a value of, or a name; "
    "answerable prompts only",
    "answer": "the answer itself; answerable prompts only",
    "answerable": "whether the context tells the answer; twins, where a task has them, ask the same, so that the "
    "question does not give it away",
}


@dataclass(frozen=True)
class Row:
    """One kind of features under one policy and ratio; all with 95 % intervals.

    Attributes
    ----------
    features, policy : str
    ratio : float
    f1, chance : Interval
        Macro-F1 of the probe fitted to the labels; to labels dealt anew.
    minus_question, minus_chance : Interval
        How much larger it is than that of the question's tokens alone, and of labels dealt anew; the latter is not in
        files of version 0.1 (NaN).
    accuracy : Interval
        Share of right replies of the same items.
    """

    features: str
    policy: str
    ratio: float
    f1: Interval
    chance: Interval
    minus_question: Interval
    minus_chance: Interval
    accuracy: Interval

    @classmethod
    def of(
        cls,
        features: str,
        policy: str,
        ratio: float,
        fitted: tuple[Probe, Probe, Probe],
        right: int,
        seed: int,
    ) -> Row:
        """Return a row from its probe, that of labels dealt anew, that of the question, and the right replies."""
        probe, chance, question = fitted
        n = len(probe.labels)
        low, high = wilson(np.array([right]), np.array([n]))
        return cls(
            features,
            policy,
            ratio,
            probe.f1(seed),
            chance.f1(seed),
            probe.minus(question, seed),
            probe.minus(chance, seed),
            Interval(right / n, float(low[0]), float(high[0])),
        )

    def to_dict(self, question: Interval) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "features": self.features,
            "policy": self.policy,
            "ratio": self.ratio,
            "macro_f1": self.f1.value,
            "low": self.f1.low,
            "high": self.f1.high,
            "chance": self.chance.value,
            "chance_low": self.chance.low,
            "chance_high": self.chance.high,
            "question_only": question.value,
            "minus_question_only": interval_dict(self.minus_question),
            "minus_chance": interval_dict(self.minus_chance),
            "accuracy": self.accuracy.value,
            "accuracy_low": self.accuracy.low,
            "accuracy_high": self.accuracy.high,
        }

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Row:
        """Return a row from JSON-ready values."""
        return cls(
            str(told["features"]),
            str(told["policy"]),
            float(told["ratio"]),
            Interval(told["macro_f1"], told["low"], told["high"]),
            Interval(told["chance"], told["chance_low"], told["chance_high"]),
            interval_of(told["minus_question_only"]),
            interval_of(told.get("minus_chance")),
            Interval(told["accuracy"], told["accuracy_low"], told["accuracy_high"]),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Probed(Shown):
    """The result of `probe`.

    Attributes
    ----------
    settings : dict
    labels : dict of str to int
        Prompts of each label.
    left_out : dict of str to int
        Prompts of labels that too few worlds have.
    rows : list of Row
    question : Interval
        Macro-F1 of the tokens of the question and the answer prefix alone, counted.
    frequent : float
        That of always saying the most frequent label.
    items, worlds : int
        Prompts, and the contexts they are of (a context and its twin are one).
    """

    settings: dict[str, Any]
    labels: dict[str, int]
    left_out: dict[str, int]
    rows: list[Row]
    question: Interval
    frequent: float
    items: int
    worlds: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "version": __version__,
            "seed": self.settings["seed"],
            "parameters": {
                **{name: value for name, value in self.settings.items() if name != "seed"},
                "items": self.items,
                "worlds": self.worlds,
                "labels": self.labels,
                "left_out": self.left_out,
            },
            "definitions": PROBE_DEFINITIONS,
            "most_frequent": self.frequent,
            "question_only": interval_dict(self.question),
            "results": [row.to_dict(self.question) for row in self.rows],
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict` as JSON, atomically: what ``probe --out`` writes."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Probed:
        """Read what `save` wrote, in this or an earlier version; ValueError if it is something else."""
        document = read_result(path, "probe")
        try:
            told = dict(document["parameters"])
            labels, left_out, items, worlds = (
                told.pop(name) for name in ("labels", "left_out", "items", "worlds")
            )
            return cls(
                {**told, "seed": document["seed"]},
                labels,
                left_out,
                [Row.read(row) for row in document["results"]],
                interval_of(document["question_only"]),
                float(document["most_frequent"]),
                int(items),
                int(worlds),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError(f"{str(path)!r} is no result of probe") from None

    def page(self) -> Page:
        """Return the macro-F1 of every probe beside the accuracy of the same items, in words and tables."""
        return Page(
            (
                words(*_header(self)),
                points(_methods(self)),
                _grid(self),
                points(_reading(self)),
                note(FOOTNOTE),
            )
        )

    def plot(self, ax: Any = None) -> Figure:
        """Draw macro-F1 and accuracy against the ratio; `ax`: axes to draw on, one a policy."""
        return plot_probed(self, ax)


PROBE_DEFINITIONS = {
    "hidden": "hidden states of the rows after the context (question and answer prefix) over the surviving cache, mean "
    "over the rows; after the middle layer, and after the last one and its norm",
    "cache": "values of every (layer, KV head), mean over its surviving rows; zeros where none survives. It has not "
    "seen the question unless scoring is question-aware: of a context that tells several types of facts it can tell "
    "what is there, not what is asked for",
    "macro_f1": f"mean F1 over labels of a logistic regression, {FOLDS} folds grouped by world (a context and its "
    f"twin); its penalty, one of {', '.join(f'{s:g}' for s in STRENGTHS)}, chosen in {INNER} grouped folds of each "
    "training part; 95 % bootstrap over worlds",
    "chance": "the same with labels dealt anew among worlds",
    "question_only": "the same of the token counts of question and answer prefix: what no context is needed for",
    "most_frequent": "macro-F1 of always saying the most frequent label",
    "minus_question_only": "worlds resampled in pairs",
    "accuracy": "right replies of the same items, greedy; Wilson's 95 % interval",
    **{f"target {name}": meaning for name, meaning in TARGETS.items()},
}


_COLOURS = {"hidden": "blue", "cache": "green"}


def plot_probed(found: Probed, axes: Any = None) -> Figure:
    """Draw every policy, a panel each; bands are 95 % intervals."""
    policies, own_figure = found.settings["policies"], axes is None
    with plot.style():
        if axes is None:
            _, axes = plot.figure(1, len(policies), width=5.6, height=4.2)
        made: Figure = np.ravel(axes)[0].figure
        for ax, policy in zip(np.ravel(axes), policies, strict=True):
            rows = [row for row in found.rows if row.policy == policy]
            for kind in FEATURES:
                own = [row for row in rows if row.features == kind]
                ratios, colour = [row.ratio for row in own], plot.COLOURS[_COLOURS[kind]]
                look = {"color": colour, "marker": "o", "label": f"probe of {kind}, macro-F1"}
                _band(ax, ratios, [row.f1 for row in own], look)
                chance = [row.chance.value for row in own]
                ax.plot(ratios, chance, ":", color=colour, linewidth=1, label=f"{kind}, labels dealt anew")
            own = [row for row in rows if row.features == FEATURES[0]]
            look = {"color": plot.COLOURS["red"], "marker": "s", "label": "accuracy of the replies"}
            _band(ax, [row.ratio for row in own], [row.accuracy for row in own], look)
            asked, black = found.question, plot.COLOURS["black"]
            ax.axhline(asked.value, color=black, linewidth=1, linestyle="--", label="question's tokens alone")
            ax.axhspan(asked.low, asked.high, color=black, alpha=0.07, linewidth=0)
            ax.set(ylim=(-0.02, 1.02), xlabel="compression ratio", ylabel="macro-F1, share of items")
            ax.set_title(drawn(policy), loc="left")
        if not own_figure:
            return made
        plot.legend(np.ravel(axes)[0])
        plot.headline(
            made,
            f"{drawn(found.settings['model'])}: {many(found.items, 'item')}, target {found.settings['target']}; "
            "bands 95 %",
        )
    return made


def _band(ax: Axes, x: list[float], values: list[Interval], look: dict[str, Any]) -> None:
    ax.plot(x, [one.value for one in values], markersize=4, **look)
    low, high = [one.low for one in values], [one.high for one in values]
    ax.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


FOOTNOTE = (
    "Macro-F1 of a logistic regression on items of worlds it has not seen (grouped five-fold cross-validation), 95 % "
    "bootstrap over worlds. hidden: mean hidden state of question and answer prefix over the surviving cache; cache: "
    "mean surviving value of every slot, which has not seen the question. chance: labels dealt anew. A probe that does "
    "no better than the question's tokens alone ('- question' at or below 0) proves nothing about the context. "
    "1 [1, 1]: no item is told wrong, and resampling cannot say how rare that would be. accuracy: right replies of the "
    "same items, Wilson's 95 % interval."
)


def _header(found: Probed) -> list[str]:
    """Return sentences that say what was probed for, and the baselines."""
    settings = found.settings
    aware = "question-aware" if settings["question_aware"] else "question-agnostic"
    labels = ", ".join(f"{name} {count}" for name, count in found.labels.items())
    made = [
        f"Model {settings['model']}, {aware}; {many(found.items, 'item')} of {many(found.worlds, 'world')}.",
        f"Target {settings['target']}: {TARGETS[settings['target']]}.",
        f"Labels: {labels if len(found.labels) <= 20 else f'{len(found.labels)} of them'}.",
        f"Question's tokens alone: {_interval(found.question)}; the most frequent label: "
        f"{found.frequent:.2f}.",
    ]
    if found.left_out:
        made.append(
            f"Left out, of too few worlds: {len(found.left_out)} labels, {sum(found.left_out.values())} items."
        )
    return made


def _methods(found: Probed) -> list[str]:
    """Return whose scores and which cut every policy is."""
    settings = found.settings
    told = legend(settings["policies"], int(settings["chunk_length"]))
    return [f"{name}: {words}." for name, words in told.items()]


def _grid(found: Probed) -> Grid:
    """Return macro-F1, its baselines and accuracy, a row a policy, ratio and kind of features."""
    rows = []
    for row in found.rows:
        rows.append(
            [
                f"{row.policy}, {row.features}",
                f"{row.ratio:g}",
                _interval(row.f1),
                _interval(row.chance),
                signed(row.minus_question, 2),
                _interval(row.accuracy),
            ]
        )
    columns = ["policy, probe of", "ratio", "macro-F1", "chance", "- question", "accuracy"]
    return Grid(columns, rows, title=f"Linear probes of {found.settings['target']}")


def _reading(found: Probed) -> list[str]:
    """Return sentences that say where a probe tells more than the question does."""
    lines = []
    for kind in dict.fromkeys(row.features for row in found.rows):
        rows = [row for row in found.rows if row.features == kind]
        better = [row for row in rows if row.minus_question.low > 0]
        chance = [row for row in rows if row.minus_chance.low > 0]
        known = not any(math.isnan(row.minus_chance.value) for row in rows)
        lines.append(
            f"{kind}: above the question's tokens alone in {len(better)} of {len(rows)} cells"
            + (f", above labels dealt anew in {len(chance)}." if known else ".")
        )
    return lines


def _interval(found: Interval) -> str:
    value, low, high = (f"{part:.2f}".removeprefix("0") if part < 1 else "1" for part in found)
    return f"{value} [{low}, {high}]"
