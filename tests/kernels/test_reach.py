import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from routegraph.kernels import reach, weights
from routegraph.testing import reach_problems
from tests import naive

BOTH = pytest.mark.parametrize("residual", [True, False], ids=["residual", "reads-only"])
PRUNE = pytest.mark.parametrize("prune", ["columns", "decode"])


def reads(graph, layer):
    """Edges of one layer as (head, query, key)."""
    rows = zip(*(column.tolist() for column in graph.edges()), strict=True)
    return [(head, query, key) for at, head, query, key in rows if at == layer]


def start_values(graph, survival, sources):
    value = np.zeros(graph.n_tokens, np.int32)
    value[sources] = survival.max_level + 1
    return value


@st.composite
def layers(draw):
    """A problem, and any values of its top layer."""
    graph, survival, _ = draw(reach_problems(max_layers=1))
    value = st.integers(0, survival.max_level + 1)
    values = draw(st.lists(value, min_size=graph.n_tokens, max_size=graph.n_tokens))
    return graph, survival, values


@given(layers(), st.data())
def test_scatter_takes_the_best_reader_of_each_slot(case, data):
    graph, _, values = case
    start = data.draw(st.integers(0, graph.n_tokens))
    stop = data.draw(st.integers(start, graph.n_tokens))
    best = np.zeros(graph.n_tokens * graph.n_heads, np.int32)
    reach.scatter(np.array(values, np.int32), best, *graph.layer(1), start, stop)
    for key in range(graph.n_tokens):
        for head in range(graph.n_heads):
            readers = [q for h, q, k in reads(graph, 1) if (h, k) == (head, key) and start <= q < stop]
            assert best[key * graph.n_heads + head] == max([0, *(values[q] for q in readers)])


@given(layers(), st.data())
def test_fold_caps_each_slot_once_and_clears_the_scratch(case, data):
    graph, survival, values = case
    n_heads, n_tokens = graph.n_heads, graph.n_tokens
    entries = st.lists(st.integers(0, 6), min_size=n_tokens * n_heads, max_size=n_tokens * n_heads)
    slots = data.draw(entries)
    best, value, drop = np.array(slots, np.int32), np.array(values, np.int32), survival.drop[0]
    reach.fold(best, value, drop, graph.n_context)
    for key in range(n_tokens):
        capped = [
            min(slots[key * n_heads + head], drop[head, key] if key < graph.n_context else 99)
            for head in range(n_heads)
        ]
        assert value[key] == max([values[key], *capped])
    assert not best.any()


@PRUNE
@BOTH
@given(layers())
def test_layer_pass_equals_twin(prune, residual, case):
    graph, survival, values = case
    value, below = np.array(values, np.int32), np.full(graph.n_tokens, 77, np.int32)
    best = np.zeros(graph.n_tokens * graph.n_heads, np.int32)
    reach.layer_pass(value, below, best, *graph.layer(1), survival.drop[0], prune == "columns", residual)
    twin = naive.carry_down(values, reads(graph, 1), survival.drop[0].tolist(), prune, residual)
    assert below.tolist() == twin
    assert value.tolist() == values
    assert not best.any()


@PRUNE
@BOTH
@given(reach_problems())
def test_reach_pass_equals_twin(prune, residual, problem):
    graph, survival, sources = problem
    value = start_values(graph, survival, sources)
    twin = value.tolist()
    for layer in range(graph.n_layers, 0, -1):
        drop = survival.drop[layer - 1].tolist()
        twin = naive.carry_down(twin, reads(graph, layer), drop, prune, residual)
    before = value.copy()
    got = reach.reach_pass(value, graph.indptr, graph.slot, survival.drop, prune == "columns", residual)
    assert got.tolist() == twin
    assert np.array_equal(value, before)


@PRUNE
@given(reach_problems(causal=False))
def test_reach_pass_gives_the_same_in_16_bits(prune, problem):
    graph, survival, sources = problem
    value = start_values(graph, survival, sources)
    wide = reach.reach_pass(value, graph.indptr, graph.slot, survival.drop, prune == "columns", True)
    narrow = reach.reach_pass(
        value.astype(np.uint16),
        graph.indptr,
        graph.slot,
        survival.drop.astype(np.uint16),
        prune == "columns",
        True,
    )
    assert narrow.dtype == np.uint16
    assert narrow.tolist() == wide.tolist()


@PRUNE
@BOTH
@given(reach_problems(), st.data())
def test_cheapest_equals_twin(prune, residual, problem, data):
    graph, survival, sources = problem
    level = data.draw(st.integers(0, survival.max_level))
    free = data.draw(hnp.arrays(np.bool_, (graph.n_layers, graph.n_heads, graph.n_tokens)))
    edges = list(zip(*(column.tolist() for column in graph.edges()), strict=True))
    alive = naive.alive_edges(
        edges, survival.drop.tolist(), graph.n_context, survival.max_level, level, prune
    )
    twin = naive.cheapest(alive, free.tolist(), graph.n_layers, sources, residual)
    got = weights.cheapest(
        graph.indptr, graph.slot, survival.drop, free, np.array(sources), level, prune == "columns", residual
    )
    for layer in range(graph.n_layers + 1):
        for position in range(graph.n_tokens):
            assert got[layer, position] == twin.get((layer, position), -1)
