"""The result of linear probes: in words, as a figure, as a dictionary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph._version import __version__
from routegraph.stats.intervals import Interval, interval_dict
from routegraph.stats.proportions import wilson
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


@dataclass(frozen=True, eq=False)
class Row:
    """One kind of features under one policy and ratio.

    Attributes
    ----------
    features, policy : str
    ratio : float
    probe, chance : Probe
        Fitted to the labels; to labels dealt anew.
    right : int
        Replies that are right, of as many as there are items.
    """

    features: str
    policy: str
    ratio: float
    probe: Probe
    chance: Probe
    right: int

    def accuracy(self) -> Interval:
        """Return the share of right replies with Wilson's interval."""
        n = len(self.probe.labels)
        low, high = wilson(np.array([self.right]), np.array([n]))
        return Interval(self.right / n, float(low[0]), float(high[0]))


@dataclass(frozen=True, eq=False)
class Probed:
    """The result of `probe`.

    Attributes
    ----------
    settings : dict
    labels : dict of str to int
        Prompts of each label.
    left_out : dict of str to int
        Prompts of labels that too few worlds have.
    rows : list of Row
    question : Probe
        Of the tokens of the question and the answer prefix alone, counted.
    frequent : Probe
        Always the most frequent label.
    """

    settings: dict[str, Any]
    labels: dict[str, int]
    left_out: dict[str, int]
    rows: list[Row]
    question: Probe
    frequent: Probe

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        seed, question = self.settings["seed"], self.question
        asked = question.f1(seed)
        return {
            "version": __version__,
            "seed": seed,
            "parameters": {
                **{name: value for name, value in self.settings.items() if name != "seed"},
                "items": len(question.labels),
                "worlds": len(np.unique(question.groups)),
                "labels": self.labels,
                "left_out": self.left_out,
            },
            "definitions": DEFINITIONS,
            "most_frequent": self.frequent.f1(seed).value,
            "question_only": interval_dict(asked),
            "results": [self._row_dict(row, asked, seed) for row in self.rows],
        }

    def plot(self) -> Figure:
        """Draw macro-F1 and accuracy against the ratio, a row a policy."""
        return plot_probed(self)

    def _row_dict(self, row: Row, asked: Interval, seed: int) -> dict[str, Any]:
        f1, chance, accuracy = row.probe.f1(seed), row.chance.f1(seed), row.accuracy()
        return {
            "features": row.features,
            "policy": row.policy,
            "ratio": row.ratio,
            "macro_f1": f1.value,
            "low": f1.low,
            "high": f1.high,
            "chance": chance.value,
            "chance_low": chance.low,
            "chance_high": chance.high,
            "question_only": asked.value,
            "minus_question_only": interval_dict(row.probe.minus(self.question, seed)),
            "accuracy": accuracy.value,
            "accuracy_low": accuracy.low,
            "accuracy_high": accuracy.high,
        }


DEFINITIONS = {
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


def plot_probed(found: Probed) -> Figure:
    """Draw every policy, a panel each; bands are 95 % intervals."""
    policies, seed = found.settings["policies"], found.settings["seed"]
    with plot.style():
        made, axes = plot.figure(1, len(policies), width=5.6, height=4.2)
        for ax, policy in zip(np.ravel(axes), policies, strict=True):
            rows = [row for row in found.rows if row.policy == policy]
            for kind in FEATURES:
                own = [row for row in rows if row.features == kind]
                ratios, colour = [row.ratio for row in own], plot.COLOURS[_COLOURS[kind]]
                look = {"color": colour, "marker": "o", "label": f"probe of {kind}, macro-F1"}
                _band(ax, ratios, [row.probe.f1(seed) for row in own], look)
                chance = [row.chance.f1(seed).value for row in own]
                ax.plot(ratios, chance, ":", color=colour, linewidth=1, label=f"{kind}, labels dealt anew")
            own = [row for row in rows if row.features == FEATURES[0]]
            look = {"color": plot.COLOURS["red"], "marker": "s", "label": "accuracy of the replies"}
            _band(ax, [row.ratio for row in own], [row.accuracy() for row in own], look)
            asked, black = found.question.f1(seed), plot.COLOURS["black"]
            ax.axhline(asked.value, color=black, linewidth=1, linestyle="--", label="question's tokens alone")
            ax.axhspan(asked.low, asked.high, color=black, alpha=0.07, linewidth=0)
            ax.set(ylim=(-0.02, 1.02), xlabel="compression ratio", ylabel="macro-F1, share of items")
            ax.set_title(policy, loc="left")
        handles, names = np.ravel(axes)[0].get_legend_handles_labels()
        made.legend(handles, names, loc="outside lower center", ncols=3)
        made.suptitle(
            f"{found.settings['model']}: {len(found.question.labels)} items, target {found.settings['target']}; "
            "bands 95 %",
            fontsize="medium",
            x=0.01,
            ha="left",
        )
    result: Figure = made
    return result


def _band(ax: Axes, x: list[float], values: list[Interval], look: dict[str, Any]) -> None:
    ax.plot(x, [one.value for one in values], markersize=4, **look)
    low, high = [one.low for one in values], [one.high for one in values]
    ax.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
