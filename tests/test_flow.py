from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph import Survival, TokenGraph, reach_thresholds
from routegraph.flow import UNCUTTABLE, disjoint_routes
from routegraph.percolation import largest_component, weak_thresholds
from routegraph.testing import reach_problems
from tests import naive

PRUNE = pytest.mark.parametrize("prune", ["columns", "decode"])
BOTH = pytest.mark.parametrize("residual", [True, False], ids=["residual", "reads-only"])


def alive_edges(graph, survival, level, prune):
    edges = list(zip(*(column.tolist() for column in graph.edges()), strict=True))
    return naive.alive_edges(edges, survival.drop.tolist(), graph.n_context, survival.max_level, level, prune)


def fewest_cuts(graph, survival, sources, token, level, prune, residual):
    """Fewest slots whose loss cuts the token off, by trying all sets of them; None if no set does."""
    edges = alive_edges(graph, survival, level, prune)

    def slot(edge):
        layer, head, _, key = edge
        return (layer, head, key) if naive.can_be_cut(edge, graph.n_context, prune) else None

    slots = sorted({slot(e) for e in edges} - {None})
    for size in range(len(slots) + 1):
        for lost in combinations(slots, size):
            left = [e for e in edges if slot(e) not in lost]
            if token not in naive.reached(left, graph.n_layers, sources, residual):
                return size
    return None


@PRUNE
@BOTH
@settings(max_examples=60)
@given(reach_problems(max_edges=9), st.data())
def test_disjoint_routes_are_the_fewest_cuts(prune, residual, case, data):
    graph, survival, sources = case
    token = data.draw(st.integers(0, graph.n_tokens - 1))
    level = data.draw(st.integers(0, survival.max_level))
    found = disjoint_routes(graph, survival, sources, token, level, prune, residual)
    expected = fewest_cuts(graph, survival, sources, token, level, prune, residual)
    assert found == (UNCUTTABLE if expected is None else expected)
    reached = reach_thresholds(graph, survival, sources, prune, residual)[token] >= level
    assert (found > 0) == reached


def test_disjoint_routes_by_hand():
    # Two heads read token 0 from the query straight, and one more route runs over token 1: its first read
    # is head 0 of token 1, its second head 1 of token 0 one layer down.
    layer, head, query, key = zip((2, 0, 2, 0), (2, 1, 2, 0), (2, 0, 2, 1), (1, 1, 1, 0), strict=True)
    graph = TokenGraph.from_edges(2, 2, 3, layer, head, query, key, n_context=2)
    drop = np.array([[[1, 3], [3, 3]], [[2, 3], [3, 3]]])
    survival = Survival(drop, steps=[0.3, 0.6])
    assert [disjoint_routes(graph, survival, [2], 0, level) for level in (0, 1, 2)] == [3, 3, 2]
    assert disjoint_routes(graph, survival, [2], 0, 0, residual=False) == 1
    assert disjoint_routes(graph, survival, [0], 0, 2) == UNCUTTABLE
    assert disjoint_routes(graph, survival, [2], 1, 0) == 1


def test_a_slot_read_by_many_is_one_route():
    # Ten queries read token 0 through one slot, the source reaches them all by slots of their own.
    layer = [2] * 10 + [1] * 10
    head = list(range(10)) + [0] * 10
    query = [11] * 10 + list(range(1, 11))
    key = list(range(1, 11)) + [0] * 10
    graph = TokenGraph.from_edges(2, 10, 12, layer, head, query, key, n_context=11)
    survival = Survival(np.full((2, 10, 11), 12))
    assert disjoint_routes(graph, survival, [11], 0, 0, residual=False) == 1
    # Without eviction of reads by context rows ("decode") only the query's ten slots can be lost.
    assert disjoint_routes(graph, survival, [11], 0, 0, prune="decode", residual=False) == 10


def test_bad_input_is_named():
    graph = TokenGraph.from_edges(1, 1, 2, [1], [0], [1], [0])
    survival = Survival(np.array([[[1, 2]]]))
    with pytest.raises(ValueError, match=r"level must be in 0..2, got 3"):
        disjoint_routes(graph, survival, [1], 0, 3)
    with pytest.raises(ValueError, match="unknown pruning 'rows'"):
        disjoint_routes(graph, survival, [1], 0, 0, prune="rows")
    with pytest.raises(
        ValueError, match=r"graph has \(layers, heads, context\) \(1, 1, 2\), survival has \(1, 1, 3\)"
    ):
        disjoint_routes(graph, Survival(np.array([[[1, 2, 3]]])), [1], 0, 0)
    with pytest.raises(ValueError, match="unknown pruning 'rows'"):
        largest_component(graph, survival, prune="rows")
    with pytest.raises(ValueError, match="survival has"):
        largest_component(graph, Survival(np.array([[[1, 2, 3]]])))
    with pytest.raises(ValueError, match=r"source must be in 0..1, got 2"):
        weak_thresholds(graph, survival, 2)


def without_directions(graph, survival, level, prune, residual):
    plain = nx.Graph()
    plain.add_nodes_from((layer, i) for layer in range(graph.n_layers + 1) for i in range(graph.n_tokens))
    for layer, _, query, key in alive_edges(graph, survival, level, prune):
        plain.add_edge((layer, query), (layer - 1, key))
    if residual:
        for layer in range(1, graph.n_layers + 1):
            plain.add_edges_from(((layer, i), (layer - 1, i)) for i in range(graph.n_tokens))
    return plain


@PRUNE
@BOTH
@given(reach_problems())
def test_largest_component_equals_networkx_at_every_level(prune, residual, case):
    graph, survival, _ = case
    found = largest_component(graph, survival, prune, residual)
    assert len(found) == survival.max_level + 1
    for level in range(survival.max_level + 1):
        plain = without_directions(graph, survival, level, prune, residual)
        assert found[level] == max(len(c) for c in nx.connected_components(plain))


@PRUNE
@BOTH
@given(reach_problems())
def test_weak_thresholds_equal_networkx_at_every_level(prune, residual, case):
    graph, survival, sources = case
    found = weak_thresholds(graph, survival, sources, prune, residual)
    for level in range(survival.max_level + 1):
        plain = without_directions(graph, survival, level, prune, residual)
        for token in range(graph.n_tokens):
            joined = any(nx.has_path(plain, (graph.n_layers, s), (0, token)) for s in np.atleast_1d(sources))
            assert (found[token] >= level) == joined
    directed = reach_thresholds(graph, survival, sources, prune, residual)
    others = np.setdiff1d(np.arange(graph.n_tokens), sources)
    assert np.all(found[others] >= directed[others])
