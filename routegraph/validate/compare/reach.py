"""Which tokens of a held-out prompt its last token still reaches: read off, simulated, theory.

Routes run over the reads heavier than a threshold eps; no figure is quoted at one eps alone. The source is the last
token of the prompt at the top layer, residual edges carry tokens down.

Pruning "columns" takes the whole prompt as cache rows. Pruning "decode" cuts only reads by queries after the
context, and a trace has none: the prompt was prefilled whole. The last `QUERIES` tokens of the prompt (a
quarter of a shorter one) therefore stand for the question: the rows before them are the cache, evicted by their
scores from the prefill of the whole prompt. Reads among the cache rows stay whole, as they do when a cache is evicted
after its prefill. Simulated prompts are split in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.choices import PRUNING
from routegraph.critical.points import half_point
from routegraph.graph import TokenGraph, heavier
from routegraph.routes import reach_thresholds
from routegraph.sim.ensembles.empirical import ReadStatistics, read_statistics
from routegraph.stats.intervals import Interval, standard_error
from routegraph.survival import Survival, fraction_gone
from routegraph.theory.reach import cavity
from routegraph.trace import Trace
from routegraph.validate.compare import prediction
from routegraph.validate.compare.prediction import Curve, Prediction
from routegraph.validate.compare.simulated import (
    ScoreModel,
    draw_reads,
    drawn,
    draws_per_prompt,
    scores_generator,
    uniform_scores,
)
from routegraph.validate.eviction import Eviction, Fates

#: Thresholds of attention weight above which a read is an edge.
EPS = (0.01, 0.03, 0.1)


#: Tokens at the end of the prompt that are queries after the context, for pruning "decode".
QUERIES = 16


#: Whose reach is counted.
TOKENS = ("all context tokens", "answer tokens")


@dataclass(frozen=True, eq=False)
class ReachComparison:
    """Reach of one kind of tokens at one threshold, under one policy and pruning.

    Attributes
    ----------
    eps : float
    prune : {"columns", "decode"}
    tokens : {"all context tokens", "answer tokens"}
    ratios : float64[n_ratios]
    observed : float64[n_prompts, n_ratios]
        Fraction of the tokens reached, held-out prompts.
    predicted : mapping of str to Prediction
        "simulated", "uniform" and, for columns and all tokens, "cavity".
    """

    eps: float
    prune: str
    tokens: str
    ratios: Curve
    observed: Curve
    predicted: dict[str, Prediction]

    def half(self, name: str | None = None) -> Interval:
        """Return the half point of a prediction, or, bootstrapped over prompts, of what was read off."""
        return half_point(self.ratios, self.observed if name is None else self.predicted[name].mean[None])

    def stderr(self) -> Curve:
        """Return the standard error over prompts of the mean curve read off, float64[n_ratios]."""
        return standard_error(self.observed)

    def spread(self, name: str) -> Interval:
        """Return the half point of a prediction, bootstrapped over the prompts it is for."""
        return half_point(self.ratios, self.predicted[name].curves)

    def difference(self, name: str) -> Interval:
        """Return the predicted minus the read-off half point."""
        return prediction.difference(self.ratios, self.predicted[name], self.observed)

    def rmse(self, name: str) -> float:
        """Return the root mean square difference over the judged ratios."""
        return prediction.rmse(self.ratios, self.predicted[name], self.observed)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        judged = {name: (made, self.observed) for name, made in self.predicted.items()}
        return {
            "eps": self.eps,
            "prune": self.prune,
            "tokens": self.tokens,
            "read_off": prediction.read_off_dict(self.ratios, self.observed),
            "predicted": prediction.predicted_dict(self.ratios, judged),
        }


def has_graphs(traces: Sequence[Trace]) -> bool:
    """Return whether every trace holds its read graph, with weights."""
    return all(trace.graph is not None and trace.graph.weight is not None for trace in traces)


def fit_reads(training: Sequence[Trace], eps: Sequence[float]) -> dict[float, ReadStatistics]:
    """Fit the `empirical` ensemble to the training graphs cut at each eps."""
    graphs = [trace.graph for trace in training if trace.graph is not None]
    return {threshold: read_statistics(graphs, threshold) for threshold in eps}


def compare_reach(
    held_out: Sequence[Trace],
    reads: Mapping[float, ReadStatistics],
    models: Mapping[str, tuple[ScoreModel, Sequence[Eviction]]],
    ratios: Curve,
    seed: int,
) -> dict[str, list[ReachComparison]]:
    """Read reach off held-out prompts and simulate it from what was fitted to the others.

    Parameters
    ----------
    held_out : sequence of Trace
        With graphs.
    reads : mapping of eps to ReadStatistics
        From `fit_reads`.
    models : mapping of policy to (ScoreModel, sequence of Eviction)
        From `fit_scores`; of each held-out prompt.
    ratios : float64[n_ratios]
    seed : int

    Returns
    -------
    dict of policy to list of ReachComparison
        By eps, then pruning, then tokens.
    """
    repeats = draws_per_prompt(len(held_out))
    shape = (held_out[0].n_layers, held_out[0].n_heads)
    found: dict[tuple[str, float, str], dict[str, list[Curve]]] = {}
    for number, trace in enumerate(held_out):
        assert trace.graph is not None
        n = trace.n_context
        fates = _fates(trace, models, ratios.tolist(), seed, number, repeats)
        for eps, statistics in reads.items():
            graphs = {"read off": [heavier(trace.graph, eps)]}
            for name, fitted in (("simulated", statistics), ("uniform", None)):
                graphs[name] = [draw_reads(fitted, shape, n, seed, number, k) for k in range(repeats)]
            for (policy, prune), made in fates.items():
                curves = found.setdefault((policy, eps, prune), {})
                for name, listed in graphs.items():
                    pairs = zip(listed, made[name], strict=True)
                    reached = [reached_at(graph, one, trace.answer, prune) for graph, one in pairs]
                    curves.setdefault(name, []).append(np.mean(reached, axis=0))
    return {
        policy: [
            made
            for eps, statistics in reads.items()
            for prune in PRUNING
            for made in _comparisons(
                held_out,
                found[policy, eps, prune],
                eps,
                prune,
                ratios,
                statistics,
                models[policy][1],
            )
        ]
        for policy in models
    }


def _fates(
    trace: Trace,
    models: Mapping[str, tuple[ScoreModel, Sequence[Eviction]]],
    ratios: Sequence[float],
    seed: int,
    number: int,
    repeats: int,
) -> dict[tuple[str, str], dict[str, list[Fates]]]:
    """Return, for each (policy, pruning), what survives: read off once, simulated `repeats` times."""
    made = {}
    for policy, (fitted, evictions) in models.items():
        for prune in PRUNING:
            n = n_cached(trace.n_context, prune)
            answers, eviction = trace.answer[trace.answer < n], evictions[number].first(n)
            made[policy, prune] = {"read off": [eviction.fates(ratios)]}
            for name, model in (("simulated", fitted), ("uniform", uniform_scores(fitted))):
                made[policy, prune][name] = [
                    model.draw(scores_generator(seed, number, repeat), eviction, answers, ratios)
                    for repeat in range(repeats)
                ]
    return made


def _comparisons(
    held_out: Sequence[Trace],
    curves: Mapping[str, list[Curve]],
    eps: float,
    prune: str,
    ratios: Curve,
    statistics: ReadStatistics,
    evictions: Sequence[Eviction],
) -> list[ReachComparison]:
    """Return the comparisons of both kinds of tokens; without answer tokens, of all tokens only."""
    made = []
    for which, tokens in enumerate(TOKENS):
        of = {name: np.array([curve[which] for curve in listed]) for name, listed in curves.items()}
        known = ~np.isnan(of["read off"]).any(axis=1)
        if not known.any():
            continue
        predicted = {name: drawn(of[name][known]) for name in ("simulated", "uniform")}
        if prune == "columns" and not which:
            degree = float(statistics.degrees.mean())
            predicted["cavity"] = Prediction(
                np.array([_cavity(*pair, degree, ratios) for pair in zip(held_out, evictions, strict=True)])
            )
        made.append(ReachComparison(eps, prune, tokens, ratios, of["read off"][known], predicted))
    return made


def _cavity(trace: Trace, eviction: Eviction, degree: float, ratios: Curve) -> Curve:
    """Return the cavity's reach of a prompt's tokens from its last one, at the fraction really gone."""
    fates = eviction.fates(ratios.tolist())
    gone = fates.join(lambda one, at: fraction_gone(one.drop, one.levels(at)))
    n = trace.n_context
    below = cavity(n - 1, trace.n_layers, trace.n_heads, degree, gone)
    return np.asarray((below.sum(axis=1) + 1) / n)


def n_cached(n_tokens: int, prune: str) -> int:
    """Return how many of a prompt's tokens are cache rows; the others are queries after them."""
    return n_tokens if prune == "columns" else n_tokens - max(1, min(QUERIES, n_tokens // 4))


def reached_at(graph: TokenGraph, fates: Fates, answers: NDArray[np.int64], prune: str) -> Curve:
    """Return `reach_curves` of an eviction at all of its ratios."""
    return fates.join(lambda survival, at: reach_curves(graph, survival, answers, at, prune))


def reach_curves(
    graph: TokenGraph, survival: Survival, answers: NDArray[np.int64], ratios: Sequence[float], prune: str
) -> Curve:
    """Return the fraction of all cache rows, and of the answer tokens among them, that are reached.

    float64[2, n_ratios]; answers are NaN where there are none. The source is the last position.
    """
    n = survival.n_context
    sizes = (graph.n_layers, graph.n_heads, graph.n_tokens, n, graph.causal)
    split = TokenGraph(*sizes, graph.indptr, graph.slot)
    thresholds = reach_thresholds(split, survival, graph.n_tokens - 1, prune)[:n]
    reached = thresholds >= survival.levels(ratios)[:, None]
    asked = answers[answers < n]
    of_answers = reached[:, asked].mean(axis=1) if len(asked) else np.full(len(ratios), np.nan)
    return np.array([reached.mean(axis=1), of_answers])
