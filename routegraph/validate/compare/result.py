"""The result of `compare`: as numbers, in words, as a figure, as a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph._version import __version__
from routegraph.files import read_result, write_json
from routegraph.frames import records
from routegraph.stats import intervals
from routegraph.tables import Block, Page, Shown, many, note, points, spanned, words
from routegraph.text import drawn
from routegraph.validate.compare import failure
from routegraph.validate.compare.figures import plot_comparison
from routegraph.validate.compare.finding import finding
from routegraph.validate.compare.policy import PolicyComparison, half_points
from routegraph.validate.compare.prediction import JUDGED, Curve
from routegraph.validate.compare.reach import EPS, QUERIES
from routegraph.validate.compare.simulated import draws_per_prompt
from routegraph.validate.compare.stored import read_policy
from routegraph.validate.compare.tables import (
    COMPARISON_FOOTNOTE,
    FAILURES_FOOTNOTE,
    FORETOLD_FOOTNOTE,
    policy_blocks,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Shown):
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
    has_foretold: bool = False
    split: str = "alternate"

    @property
    def has_reach(self) -> bool:
        """Whether the traces hold the graphs that reach is read off from."""
        return any(found.reach for found in self.policies.values())

    @property
    def answer(self) -> list[str]:
        """What was found, in at most three sentences."""
        return finding(self.policies)

    @property
    def question(self) -> str:
        """What was compared, in words."""
        agnostic = "question-agnostic (each context prefilled once, without its question)"
        aware = (
            "question-aware (each context prefilled once, its question after it; rows of both are evicted)"
        )
        return (
            f"Model {self.model}: {many(self.n_prompts, 'prompt')} of {spanned(self.n_context)} tokens, "
            f"{aware if self.question_aware else agnostic}; half of the prompts held out. "
            "How much is gone from every slot, at every compression ratio?"
        )

    @property
    def notes(self) -> list[str]:
        """How to read the tables."""
        notes = [
            COMPARISON_FOOTNOTE,
            *([FAILURES_FOOTNOTE] * self.has_measured),
            *([FORETOLD_FOOTNOTE] * self.has_foretold),
        ]
        if not self.has_reach:
            notes.append("Reach is not shown: it needs traces made by extract --graphs.")
        return notes

    def page(self) -> Page:
        """Return what was found, then what was read off, what theory and simulation say, and what it means."""
        methods = [f"{name}: {found.words}." for name, found in self.policies.items()]
        blocks: list[Block] = [words(*self.answer), words(self.question), points(methods)]
        for found in self.policies.values():
            blocks += policy_blocks(found, self.has_measured, self.has_foretold)
        return Page((*blocks, note(*self.notes)))

    def plot(self, ax: Any = None) -> Figure:
        """Draw every policy, a row each; `ax`: axes to draw on, two a policy, four with reach."""
        return plot_comparisons(self, ax)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict` as JSON, atomically: what ``compare --out`` writes."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparison:
        """Read what `save` wrote, in this or an earlier version.

        The file tells means, standard errors and half points; the curves of single prompts are not in it.

        Raises
        ------
        ValueError
            If the file is no result of `compare`.
        """
        document = read_result(path, "compare")
        try:
            told = document["parameters"]
            ratios = np.array(told["ratios"], dtype=float)
            policies = {row["policy"]: read_policy(row, ratios) for row in document["results"]}
            return cls(
                model=str(told["model"]),
                n_prompts=int(told["prompts"]),
                n_context=(int(told["n_context"][0]), int(told["n_context"][1])),
                ratios=ratios,
                seed=int(document["seed"]),
                policies=policies,
                eps=tuple(told["eps"]),
                question_aware=bool(told["question_aware"]),
                has_measured=any(found.measured is not None for found in policies.values()),
                has_foretold=any(found.foretold is not None for found in policies.values()),
                split=str(told.get("split", "alternate")),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise ValueError(f"{str(path)!r} is no result of compare") from None

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
                "split": self.split,
            },
            "definitions": {
                **COMPARISON_DEFINITIONS,
                **{f"policy {name}": found.words for name, found in self.policies.items()},
            },
            "answer": " ".join(self.answer),
            "results": [
                {
                    "policy": found.policy,
                    "scorer": found.scorer,
                    **({} if found.cut is None else {"cut": found.cut}),
                    "structural_cliffs": found.cliffs,
                    "axes": [axis.to_dict() for axis in found.axes.values()],
                    "reach": [reach.to_dict() for reach in found.reach],
                    "measured": None
                    if found.measured is None
                    else found.measured.to_dict(half_points(found)),
                    **({} if found.foretold is None else {"foretold": found.foretold.to_dict()}),
                }
                for found in self.policies.values()
            ],
        }

    def records(self) -> list[dict[str, Any]]:
        """Return what is gone and what is reached as flat rows, one a policy, head axis or threshold, and ratio."""
        rows = [
            {
                "policy": found.policy,
                "scorer": found.scorer,
                "parts": [axis.to_dict() for axis in found.axes.values()]
                + [one.to_dict() for one in found.reach],
            }
            for found in self.policies.values()
        ]
        return records(rows, self.ratios.tolist())


COMPARISON_DEFINITIONS = {
    "ratio": "fraction of cache rows the policy is asked to remove",
    "gone": "fraction of evictable rows (protected neither by the scorer nor by the policy) really gone from a slot",
    "all tokens": "eviction rate: fraction of all context tokens gone from every slot of the head axis",
    "answer tokens": "GER: the same over the tokens of the answer spans",
    "evictable tokens": "the same over tokens that nothing protects, prompts held out from fitting",
    "head_axis": "model: gone from all layers * heads slots; layer: gone from all heads of a layer, averaged "
    "over layers",
    "sink": "protected rows (sinks and windows, the same on every side) are out of 'evictable tokens' and of every "
    "prediction, in for 'all tokens'",
    "independent": "p**M with p = gone",
    "one factor": "Gaussian one-factor copula, rho fitted on the training half of the prompts at every other "
    "ratio",
    "measured copula": "Gaussian copula with the correlation of the slots' normal scores measured on the "
    "training half; nothing fitted to GER",
    "shifted copula": "the same for answer tokens, with the mean, spread and correlation of the normal scores of the "
    "training half's answer tokens, every prompt weighing the same; protected answer tokens stay",
    "simulated": "drawn from what was fitted to the training half: scores from the field of profile 'trace', reads "
    "from the ensemble 'empirical', the same policy and protected rows; every simulated prompt has the length of a "
    "held-out one, and its answer tokens, drawn with the mean, spread and correlation of the training half's",
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
    "split": "alternate: the training half is the first, third, ... prompt as they come; random: shuffled by the seed",
    "minus_read_off": "predicted minus read-off half point, prompts resampled in pairs",
    "replicates": "simulated prompts for each held-out prompt",
    "rmse": f"over ratios {JUDGED[0]} to {JUDGED[1]} not used for fitting, against held-out prompts",
    "intervals": "95 %, bootstrap over prompts",
    **failure.FAILURE_DEFINITIONS,
}


def plot_comparisons(result: Comparison, axes: Any = None) -> Figure:
    """Draw every policy of a comparison, a row each."""
    columns = 4 if result.has_reach else 2
    if axes is None:
        with plot.style():
            _, axes = plot.figure(len(result.policies), columns, width=5.6)
    rows = np.reshape(axes, (len(result.policies), columns))
    made: Figure = rows[0, 0].figure
    for found, panels in zip(result.policies.values(), rows, strict=True):
        plot_comparison(found, result.model, panels)
        for ax in panels:
            ax.set_title(f"{drawn(found.policy)}: {ax.get_title(loc='left')}", loc="left")
    plot.headline(
        made,
        f"{drawn(result.model)}: {many(result.n_prompts // 2, 'held-out prompt')} of {spanned(result.n_context)} "
        "tokens; dots are read off, bands two standard errors over prompts",
    )
    return made
