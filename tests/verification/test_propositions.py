"""Proposition 1 of arXiv 2603.01426: kept under independence, broken under correlation."""

import numpy as np
import pytest

from routegraph import Survival, TokenGraph, plot, reach_thresholds
from routegraph.theory import ger

pytestmark = pytest.mark.verify

HEADS, N, RATIOS = 4, 64, np.array([0.25, 0.5, 0.625, 0.75, 0.875])


def head_disjoint(layers):
    """A query that reaches token 0 by one route for each head: through token h + 1 of its own, or straight."""
    query = N
    edges = []
    for head in range(HEADS):
        stops = [query, *([head + 1] * (layers - 1)), 0]
        edges += [(layers - i, head, stops[i], stops[i + 1]) for i in range(layers)]
    layer, head, source, key = zip(*edges, strict=True)
    return TokenGraph.from_edges(layers, HEADS, N + 1, layer, head, source, key, n_context=N)


def reached(graph, rho, replicates, seed):
    """Share of replicates in which token 0 is reached, at each ratio, scores sharing a factor per token."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(replicates):
        shared = rng.standard_normal(N)
        noise = rng.standard_normal((graph.n_layers, HEADS, N))
        scores = np.sqrt(rho) * shared + np.sqrt(1 - rho) * noise
        survival = Survival(scores.argsort(axis=-1).argsort(axis=-1) + 1)
        threshold = reach_thresholds(graph, survival, [N], residual=False)[0]
        found.append(threshold >= survival.levels(RATIOS))
    return np.mean(found, axis=0)


def test_proposition_1(record):
    """k = 4 head-disjoint routes of one or two slots; a route survives with probability p = (1 - ratio)^slots."""
    runs = 6000
    figure, axes = plot.figure()
    for layers in (1, 2):
        graph = head_disjoint(layers)
        kept = (1 - RATIOS) ** layers
        bound = 1 - (1 - kept) ** HEADS
        free = reached(graph, 0.0, runs, seed=layers)
        error = np.sqrt(bound * (1 - bound) / runs)
        record.value(f"independent, {layers} slots, ratio .75", free[3], error[3], bound[3], runs, "Prop. 1")
        assert np.all(np.abs(free - bound) < 3 * error)
        tied = reached(graph, 0.6, runs, seed=10 + layers)
        error = np.sqrt(tied * (1 - tied) / runs)
        # By a wide margin below what the proposition promises, though each route survives as often.
        record.value(
            f"correlated .6, {layers} slots, ratio .75", tied[3], error[3], bound[3], runs, "bound broken"
        )
        assert np.all((bound - tied)[1:4] > (10 if layers == 1 else 3.5) * error[1:4])
        if layers == 1:
            truth = 1 - ger.one_factor(RATIOS, HEADS, 0.6)
            assert np.all(np.abs(tied - truth) < 3 * error + 1 / N)
        axes.plot(RATIOS, bound, color="black", linewidth=0.8)
        axes.plot(RATIOS, free, "o", label=f"{layers} slots a route, independent")
        axes.plot(RATIOS, tied, "s", label=f"{layers} slots a route, correlation .6")
    axes.set(xlabel="compression ratio", ylabel="Pr[reached]", title="Prop. 1: 1 - (1 - p)^4 (lines)")
    axes.legend()
    record.figure(figure)
