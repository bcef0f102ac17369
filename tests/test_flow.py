import itertools
import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph import TokenGraph, reach_thresholds
from routegraph.flow import disjoint_routes
from routegraph.percolation import largest_component
from routegraph.policies import apply
from routegraph.testing import reach_problems

PRUNE = st.sampled_from(["columns", "decode"])


def alive_edges(graph, survival, level, prune):
    for layer, head, query, key in np.array(graph.edges()).T.tolist():
        cut = key < graph.n_context and (prune == "columns" or query >= graph.n_context)
        if not cut or survival.drop[layer - 1, head, key] > level:
            yield layer, head, query, key


def reaches(edges, n_layers, sources, goal, residual):
    at = set(sources)
    for layer in range(n_layers, 0, -1):
        at = {k for l, _, q, k in edges if l == layer and q in at} | (at if residual else set())
    return goal in at


@given(problem=reach_problems(max_edges=10), prune=PRUNE, residual=st.booleans(), data=st.data())
def test_disjoint_routes_equal_the_smallest_cut(problem, prune, residual, data):
    """Menger, by brute force: fewest slots of cache rows whose loss cuts the token off."""
    graph, survival, sources = problem
    level = data.draw(st.integers(0, survival.max_level))
    goal = data.draw(st.integers(0, graph.n_tokens - 1))
    edges = list(alive_edges(graph, survival, level, prune))
    slots = sorted({(l, h, k) for l, h, _, k in edges if k < graph.n_context})
    cut = next(
        (
            size
            for size in range(len(slots) + 1)
            for gone in map(set, itertools.combinations(slots, size))
            if not reaches(
                [e for e in edges if (e[0], e[1], e[3]) not in gone], graph.n_layers, sources, goal, residual
            )
        ),
        math.inf,
    )
    found = disjoint_routes(graph, survival, sources, goal, level, prune, residual)
    assert found == cut
    if goal not in sources:
        assert (found > 0) == (reach_thresholds(graph, survival, sources, prune, residual)[goal] >= level)


@given(problem=reach_problems(), prune=PRUNE, residual=st.booleans())
def test_largest_component_equals_networkx_at_every_level(problem, prune, residual):
    graph, survival, _ = problem
    found = largest_component(graph, survival, prune, residual)
    assert len(found) == survival.max_level + 1
    for level, size in enumerate(found):
        twin = nx.Graph()
        twin.add_nodes_from(itertools.product(range(graph.n_layers + 1), range(graph.n_tokens)))
        for layer, _, query, key in alive_edges(graph, survival, level, prune):
            twin.add_edge((layer, query), (layer - 1, key))
        if residual:
            twin.add_edges_from(
                ((l, i), (l - 1, i)) for l in range(1, graph.n_layers + 1) for i in range(graph.n_tokens)
            )
        assert size == max(map(len, nx.connected_components(twin)))


def test_more_routes_than_one():
    graph = TokenGraph.from_edges(
        1, 3, 3, [1, 1, 1, 1], [0, 1, 1, 2], [2, 2, 2, 2], [0, 0, 0, 1], n_context=2
    )
    survival = apply("topk", np.zeros((1, 3, 2)))
    assert disjoint_routes(graph, survival, 2, 0, 0) == 2  # parallel reads of one slot are one route
    assert disjoint_routes(graph, survival, 2, 2, 0) == math.inf  # the query is where it is
    with pytest.raises(ValueError, match=r"level must be in 0\.\.2, got 3"):
        disjoint_routes(graph, survival, 2, 0, 3)
