"""Noise on the logits of a graph: which reads go astray, and that it is the noise of theory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.graph import TokenGraph, heavier
from routegraph.routes import reach_thresholds
from routegraph.sim.noise import with_logit_noise
from routegraph.survival import Survival
from routegraph.testing import token_graphs
from routegraph.theory.noise import heaviest_stays

N_KEYS = 20


def gaussian_reads(n_queries=2000, spread=1.0, heads=2, seed=0):
    """Two layers in which every query after the context reads all of it, with logits N(0, spread^2)."""
    rng = np.random.default_rng(seed)
    layer, head, query, key = (one.ravel() for one in np.indices((2, heads, n_queries, N_KEYS)))
    weight = np.exp(spread * rng.normal(size=len(key)))
    n = N_KEYS + n_queries
    return TokenGraph.from_edges(2, heads, n, layer + 1, head, query + N_KEYS, key, weight, n_context=N_KEYS)


def test_reads_go_astray_as_often_as_theory_says():
    graph, noise = gaussian_reads(), 0.6
    found = with_logit_noise(graph, noise, seed=3)
    rows = len(found.moved)
    assert rows == 2 * 2 * 2000
    p = 1 - heaviest_stays(N_KEYS, noise, 1.0)
    assert abs(found.astray - p) < 4 * np.sqrt(p * (1 - p) / rows)


def test_noise_of_each_head_is_its_own():
    graph = gaussian_reads(n_queries=50)
    sizes = np.array([[0.0, 2.0], [0.5, 0.0]])
    found = with_logit_noise(graph, sizes, seed=1)
    changed = found.graph.weight / graph.weight
    row = np.repeat(np.arange(len(graph.indptr) - 1), np.diff(graph.indptr))
    layer, head = row // graph.n_tokens, graph.slot % 2
    for one, two in np.ndindex(2, 2):
        own = np.log(changed[(layer == one) & (head == two)])
        spread = np.log(changed[(layer == one) & (head == two)]).std()
        assert len(own) == 50 * N_KEYS
        assert spread == pytest.approx(sizes[one, two], rel=0.3, abs=1e-5)


@given(token_graphs(weighted=True), st.integers(0, 3))
def test_laws(graph, seed):
    none = with_logit_noise(graph, 0.0, seed)
    np.testing.assert_allclose(none.graph.weight, graph.weight, rtol=1e-6)
    assert none.astray == 0
    some = with_logit_noise(graph, 1.5, seed)
    again = with_logit_noise(graph, 1.5, seed)
    assert (some.graph.weight == again.graph.weight).all()
    assert (some.graph.slot == graph.slot).all()
    assert ((some.moved >= -1e-12) & (some.moved <= 1 + 1e-12)).all()
    row = np.repeat(np.arange(len(graph.indptr) - 1), np.diff(graph.indptr)) * graph.n_heads
    group = row + graph.slot % graph.n_heads
    size = (len(graph.indptr) - 1) * graph.n_heads
    before, after = (np.bincount(group, one.weight, size) for one in (graph, some.graph))
    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_reach_after_noise_is_that_of_the_reads_heavy_enough():
    """One read of .8 and one of .2: once they swap, the route through the heavier one leads elsewhere."""
    graph = TokenGraph.from_edges(1, 1, 3, [1, 1], [0, 0], [2, 2], [0, 1], [0.8, 0.2], n_context=2)
    survival = Survival(np.full((1, 1, 2), 3))
    swapped = next(
        found
        for seed in range(200)
        if (found := with_logit_noise(graph, 2.0, seed)).astray == 1 and found.graph.weight[1] > 0.6
    )
    before, after = (
        reach_thresholds(heavier(one, 0.5), survival, [2], prune="decode") for one in (graph, swapped.graph)
    )
    assert (before[:2] >= 0).tolist() == [True, False]
    assert (after[:2] >= 0).tolist() == [False, True]


@pytest.mark.parametrize("noise", [-1.0, float("nan"), np.ones(3), np.full((2, 2), np.inf)])
def test_what_is_no_noise(noise):
    with pytest.raises(ValueError, match="or one for each of 2 layers and 2 heads"):
        with_logit_noise(gaussian_reads(3), noise)


def test_without_weights():
    graph = TokenGraph.from_edges(1, 1, 2, [1], [0], [1], [0])
    with pytest.raises(ValueError, match="no attention weights"):
        with_logit_noise(graph, 1.0)
