"""Large graphs, and the borders of the integer types, against one pass in numpy on 64-bit integers."""

from dataclasses import replace

import numba as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph import Survival, TokenGraph, reach_thresholds, reach_thresholds_each
from routegraph.attention import widest_path
from routegraph.routes import level_type, reach_by_layer, reach_counts
from routegraph.testing import reach_problems

PRUNE = pytest.mark.parametrize("prune", ["columns", "decode"])
BOTH = pytest.mark.parametrize("residual", [True, False], ids=["residual", "reads-only"])
compiled = pytest.mark.skipif(bool(nb.config.DISABLE_JIT), reason="slow in pure Python")


def one_numpy_pass(graph, survival, sources, prune="columns", residual=True):
    """Thresholds by the definition, edge by edge, all edges of a layer at once."""
    never = survival.max_level + 1
    value = np.zeros(graph.n_tokens, np.int64)
    value[sources] = never
    layer, head, query, key = graph.edges()
    padded = np.full((graph.n_layers, graph.n_heads, graph.n_tokens), never)
    padded[..., : graph.n_context] = survival.drop
    cap = padded[layer - 1, head, key]
    if prune == "decode":
        cap[query < graph.n_context] = never
    for at in range(graph.n_layers, 0, -1):
        here = layer == at
        below = value.copy() if residual else np.zeros_like(value)
        np.maximum.at(below, key[here], np.minimum(value[query[here]], cap[here]))
        value = below
    value[sources] = never
    return value - 1


def random_problem(n_layers, n_heads, n_context, reads, seed, n_tokens=None):
    """Uniform causal reads, and levels with the extremes 1, max_level and max_level + 1 among them."""
    rng = np.random.default_rng(seed)
    n_tokens = n_tokens or n_context + 1
    n_edges = n_layers * n_tokens * reads
    query = rng.integers(0, n_tokens, n_edges)
    edges = (
        rng.integers(1, n_layers + 1, n_edges),
        rng.integers(0, n_heads, n_edges),
        query,
        rng.integers(0, query + 1),
    )
    graph = TokenGraph.from_edges(n_layers, n_heads, n_tokens, *edges, n_context=n_context)
    drop = rng.integers(1, n_context + 2, (n_layers, n_heads, n_context)).astype(np.int32)
    drop[rng.random(drop.shape) < 0.3] = n_context + 1
    drop[rng.random(drop.shape) < 0.1] = n_context
    drop[0, 0, 0] = 1
    return graph, Survival(drop)


@compiled
@pytest.mark.parametrize("n_heads", [1, 3, 4, 8, 11])
@PRUNE
@BOTH
def test_a_large_graph_equals_one_numpy_pass(n_heads, prune, residual):
    graph, survival = random_problem(6, n_heads, 2000, 3 * n_heads, seed=n_heads, n_tokens=2005)
    sources = np.random.default_rng(1).choice(2005, 70, replace=False)
    each = reach_thresholds_each(graph, survival, sources, prune, residual)
    for source, row in list(zip(sources, each, strict=True))[::6]:
        twin = one_numpy_pass(graph, survival, source, prune, residual)
        assert np.array_equal(row, twin)
        assert np.array_equal(reach_thresholds(graph, survival, source, prune, residual), twin)
    together = reach_thresholds(graph, survival, sources, prune, residual)
    assert np.array_equal(together, one_numpy_pass(graph, survival, sources, prune, residual))


@compiled
@pytest.mark.parametrize("n_context", [65_533, 65_534, 65_535, 65_536])
def test_levels_around_16_bits(n_context):
    graph, survival = random_problem(3, 2, n_context, 6, seed=n_context)
    assert level_type(n_context) is (np.uint16 if n_context <= 65_534 else np.int32)
    sources = np.append(n_context, np.random.default_rng(2).integers(0, n_context, 13))
    each = reach_thresholds_each(graph, survival, sources)
    ratios = [0.0, 0.5, 0.99, 1 - 1 / n_context, 1 - 1e-9]
    counts = reach_counts(graph, survival, sources, ratios)
    for k in (0, 5, 13):
        twin = one_numpy_pass(graph, survival, sources[k])
        assert np.array_equal(reach_thresholds(graph, survival, sources[k]), twin)
        assert np.array_equal(each[k], twin)
        alive = twin[:, None] >= survival.levels(ratios)
        assert np.array_equal(counts[k], alive.sum(axis=1))
    # What every level can be is among the answers, the highest ones too.
    assert {n_context, n_context - 1} <= set(each[0].tolist())
    assert np.array_equal(reach_by_layer(graph, survival, sources[:1])[0][:n_context], each[0][:n_context])


def test_levels_beyond_32_bits_are_refused():
    assert level_type(2**31 - 2) is np.int32
    with pytest.raises(ValueError, match="at most 2147483646 levels can be told apart, got 2147483647"):
        level_type(2**31 - 1)


@PRUNE
@BOTH
@settings(max_examples=25)
@given(reach_problems(), st.integers(3, 70), st.booleans())
def test_many_sources_equal_each_alone(prune, residual, problem, n_sources, sorted_before):
    graph, survival, _ = problem
    if sorted_before:
        _ = graph.readers
    sources = np.random.default_rng(n_sources).integers(0, graph.n_tokens, n_sources)
    each = reach_thresholds_each(graph, survival, sources, prune, residual)
    assert each.dtype == np.int64
    for source, row in zip(sources, each, strict=True):
        assert np.array_equal(row, reach_thresholds(graph, survival, source, prune, residual))


@PRUNE
@settings(max_examples=25)
@given(reach_problems(), st.sampled_from([1, 2, 14]), st.lists(st.floats(0, 1, exclude_max=True), min_size=1))
def test_counts_are_ratios_at_which_a_token_is_reached(prune, problem, n_sources, ratios):
    graph, survival, _ = problem
    sources = np.random.default_rng(len(ratios)).integers(0, graph.n_tokens, n_sources)
    each = reach_thresholds_each(graph, survival, sources, prune)
    counts = reach_counts(graph, survival, sources, ratios, prune)
    assert np.array_equal(counts, (each[..., None] >= survival.levels(ratios)).sum(axis=-1))


@pytest.mark.parametrize(("n_ratios", "dtype"), [(1, np.uint8), (255, np.uint8), (256, np.uint16)])
@pytest.mark.parametrize("n_sources", [1, 12])
def test_counts_take_the_narrowest_type(n_ratios, dtype, n_sources):
    graph = TokenGraph.from_edges(1, 1, 3, [1, 1], [0, 0], [2, 1], [1, 0])
    survival = Survival([[[1, 3, 4]]])
    ratios = np.linspace(0, 0.9, n_ratios)
    counts = reach_counts(graph, survival, [2] * n_sources, ratios, residual=False)
    assert counts.dtype == dtype
    assert counts[-1].tolist() == [0, (survival.levels(ratios) < 3).sum(), n_ratios]


def test_too_many_ratios_are_refused():
    graph = TokenGraph.from_edges(1, 1, 1, [], [], [], [])
    with pytest.raises(ValueError, match="at most 65535 ratios at once, got 65536"):
        reach_counts(graph, Survival([[[1]]]), 0, np.zeros(65_536))


def test_wide_types_of_drop_and_broadcast_tables_are_taken_as_they_are():
    graph, survival = random_problem(2, 2, 30, 4, seed=0)
    same = np.broadcast_to(survival.drop[:1, :1], survival.drop.shape)
    wide = np.ascontiguousarray(same).astype(np.int64)
    sources = list(range(20))
    assert np.array_equal(
        reach_thresholds(graph, Survival(same), 30), reach_thresholds(graph, Survival(wide), 30)
    )
    assert np.array_equal(
        reach_thresholds_each(graph, Survival(same), sources),
        reach_thresholds_each(graph, Survival(wide), sources),
    )


@compiled
@pytest.mark.parametrize("n_heads", [1, 4, 5, 8])
@PRUNE
@BOTH
def test_widths_of_a_large_graph_equal_one_numpy_pass(n_heads, prune, residual):
    plain, survival = random_problem(4, n_heads, 1500, 2 * n_heads, seed=n_heads, n_tokens=1503)
    weight = np.random.default_rng(4).random(plain.n_edges, dtype=np.float32)
    weight[::50], weight[1::50] = 0.0, -0.0
    graph = replace(plain, weight=weight)
    got = widest_path(graph, survival, [1502, 700], 0.6, prune, residual)
    layer, head, query, key = graph.edges()
    padded = np.full((4, n_heads, 1503), survival.max_level + 1)
    padded[..., :1500] = survival.drop
    alive = padded[layer - 1, head, key] > survival.level(0.6)
    if prune == "decode":
        alive |= query < 1500
    value = np.zeros(1503, np.float32)
    value[[1502, 700]] = np.inf
    for at in range(4, 0, -1):
        here = alive & (layer == at)
        below = value.copy() if residual else np.zeros_like(value)
        np.maximum.at(below, key[here], np.minimum(value[query[here]], weight[here]))
        value = below
    assert got.dtype == np.float32
    assert np.array_equal(got, value)
    assert not np.signbit(got).any()
