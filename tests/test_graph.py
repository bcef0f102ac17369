from itertools import product

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph import TokenGraph
from routegraph.testing import token_graphs

any_graphs = st.booleans().flatmap(
    lambda causal: st.booleans().flatmap(lambda w: token_graphs(causal=causal, weighted=w))
)
EDGE = ("layer", "head", "query", "key")
SIZES = {"n_layers": 2, "n_heads": 3, "n_tokens": 4}


def build(edges=(), *, weight=None, **sizes):
    columns = np.array(edges, dtype=np.int64).reshape(-1, 4).T
    return TokenGraph.from_edges(**{**SIZES, **sizes}, **dict(zip(EDGE, columns, strict=True)), weight=weight)


def rows(graph):
    return list(zip(*(column.tolist() for column in graph.edges()), strict=True))


def same(one, other):
    """Whether two graphs hold the same, array by array."""
    sizes = ("n_layers", "n_heads", "n_tokens", "n_context", "causal")
    weights = (one.weight is None) == (other.weight is None) and (
        one.weight is None or np.array_equal(one.weight, other.weight)
    )
    return (
        all(getattr(one, name) == getattr(other, name) for name in sizes)
        and np.array_equal(one.indptr, other.indptr)
        and np.array_equal(one.slot, other.slot)
        and weights
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layers": 0}, "n_layers must be at least 1, got 0"),
        ({"n_heads": -1}, "n_heads must be at least 1, got -1"),
        ({"n_tokens": 0}, "n_tokens must be at least 1, got 0"),
        ({"n_context": 5}, "n_context must be in 0..n_tokens = 4, got 5"),
        ({"n_context": -1}, "n_context must be in 0..n_tokens = 4, got -1"),
        ({"layer": [1, 0]}, "edge 1 has layer 0, outside 1..2"),
        ({"layer": [3, 1]}, "edge 0 has layer 3, outside 1..2"),
        ({"head": [0, 3]}, "edge 1 has head 3, outside 0..2"),
        ({"head": [-1, 0]}, "edge 0 has head -1, outside 0..2"),
        ({"query": [4, 2]}, "edge 0 has query 4, outside 0..3"),
        ({"key": [0, -2]}, "edge 1 has key -2, outside 0..3"),
        ({"key": [3, 4], "query": [3, 3]}, "edge 1 has key 4, outside 0..3"),
        ({"key": [1, 3]}, "edge 1 (layer 2, head 2) reads key 3 after its query 2; pass causal=False"),
        ({"layer": [1]}, "must have one length, got layer 1, head 2, query 2, key 2"),
        ({"head": [0.0, 1.0]}, "head must be integers, got float64"),
        ({"query": [[1, 2]]}, "query must be a list of integers, got 2 axes"),
        ({"weight": [0.5]}, "weight must have one entry for each of the 2 edges, got (1,)"),
        ({"weight": [0.5, -1.0]}, "weight must be finite and not negative, got -1.0"),
        ({"weight": [0.5, np.nan]}, "weight must be finite and not negative, got nan"),
        ({"weight": [np.inf, 0.5]}, "weight must be finite and not negative, got inf"),
    ],
    ids=str,
)
def test_bad_input_is_refused_by_name_and_value(change, message):
    good = {**SIZES, "layer": [1, 2], "head": [0, 2], "query": [1, 2], "key": [1, 0]}
    TokenGraph.from_edges(**good)
    with pytest.raises(ValueError) as refused:
        TokenGraph.from_edges(**{**good, **change})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_key_may_be_its_own_query():
    assert rows(build([(1, 0, 2, 2)])) == [(1, 0, 2, 2)]


def test_causal_false_allows_any_key():
    graph = build([(1, 0, 0, 3)], causal=False)
    assert rows(graph) == [(1, 0, 0, 3)]
    assert not graph.causal


def test_context_is_all_tokens_by_default():
    assert build().n_context == 4
    assert build(n_context=2).n_context == 2
    assert build(n_context=0).n_context == 0


def test_empty_graph():
    graph = build()
    assert graph.n_edges == 0
    assert rows(graph) == []
    assert graph.indptr.tolist() == [0] * 9


@given(st.permutations([(1, 0, 1, 0), (1, 1, 1, 0), (1, 0, 3, 2), (2, 2, 0, 0), (2, 0, 3, 1), (2, 0, 3, 1)]))
def test_edges_come_back_sorted_whatever_their_order(edges):
    assert rows(build(edges)) == [
        (1, 0, 1, 0), (1, 1, 1, 0), (1, 0, 3, 2), (2, 2, 0, 0), (2, 0, 3, 1), (2, 0, 3, 1),
    ]  # fmt: skip


@given(token_graphs(), st.data())
def test_edges_round_trip(graph, data):
    edges = data.draw(st.permutations(rows(graph)))
    columns = np.array(edges, dtype=np.int64).reshape(-1, 4).T
    again = TokenGraph.from_edges(
        graph.n_layers, graph.n_heads, graph.n_tokens, *columns, n_context=graph.n_context
    )
    assert same(graph, again)
    assert rows(graph) == sorted(edges, key=lambda e: (e[0], e[2], e[3], e[1]))


def test_weights_follow_their_edges():
    graph = build([(2, 0, 3, 1), (1, 1, 1, 0), (1, 0, 1, 0)], weight=[0.25, 0.5, 1.0])
    assert rows(graph) == [(1, 0, 1, 0), (1, 1, 1, 0), (2, 0, 3, 1)]
    assert graph.weight.tolist() == [1.0, 0.5, 0.25]


@given(token_graphs())
def test_layer_holds_the_edges_of_that_layer_only(graph):
    found = []
    for layer in range(1, graph.n_layers + 1):
        indptr, slot = graph.layer(layer)
        assert len(indptr) == graph.n_tokens + 1
        for query in range(graph.n_tokens):
            for s in slot[indptr[query] : indptr[query + 1]].tolist():
                found.append((layer, s % graph.n_heads, query, s // graph.n_heads))
    assert found == rows(graph)


@given(any_graphs)
def test_networkx_round_trip_keeps_everything(graph):
    made = graph.to_networkx()
    assert set(made.nodes) == set(product(range(graph.n_layers + 1), range(graph.n_tokens)))
    assert made.number_of_edges() == graph.n_edges
    assert same(TokenGraph.from_networkx(made), graph)


def test_networkx_edges_go_down_and_carry_head_and_weight():
    made = build([(2, 1, 3, 0)], weight=[0.5]).to_networkx()
    assert list(made.edges(data=True)) == [((2, 3), (1, 0), {"head": 1, "weight": 0.5})]


def foreign(*edges, **attributes):
    graph = nx.MultiDiGraph(**{**SIZES, **attributes})
    for above, below, data in edges:
        graph.add_edge(above, below, **data)
    return graph


def test_networkx_graph_made_by_hand():
    graph = TokenGraph.from_networkx(foreign(((2, 3), (1, 0), {"head": 1, "weight": 0.5})))
    assert rows(graph) == [(2, 1, 3, 0)]
    assert (graph.n_context, graph.causal, graph.weight.tolist()) == (4, True, [0.5])
    assert TokenGraph.from_networkx(foreign(((2, 3), (1, 0), {"head": 1}))).weight is None
    assert TokenGraph.from_networkx(foreign()).n_edges == 0


@pytest.mark.parametrize("lacking", ["n_layers", "n_heads", "n_tokens"])
def test_networkx_graph_without_a_size_is_refused(lacking):
    graph = foreign()
    del graph.graph[lacking]
    with pytest.raises(ValueError, match=f"lacks the graph attribute '{lacking}'"):
        TokenGraph.from_networkx(graph)


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        (((2, 3), (0, 1), {"head": 0}), r"not layered: edge \(2, 3\) -> \(0, 1\)"),
        (((1, 3), (2, 1), {"head": 0}), r"not layered: edge \(1, 3\) -> \(2, 1\)"),
        (((1, 3), (1, 1), {"head": 0}), r"not layered: edge \(1, 3\) -> \(1, 1\)"),
        ((3, 1, {"head": 0}), r"not layered: node 3 "),
        (("ab", "cd", {"head": 0}), r"not layered: node 'ab' "),
        (((2, 3), (1, 1), {}), r"edge \(2, 3\) -> \(1, 1\) lacks the attribute 'head'"),
        (((2, 3), (1, 1), {"head": 1.5}), r"head must be integers"),
        (((2, 3), (1, 1), {"head": 7}), r"edge 0 has head 7, outside 0\.\.2"),
        (((3, 3), (2, 1), {"head": 0}), r"edge 0 has layer 3, outside 1\.\.2"),
    ],
    ids=str,
)
def test_networkx_graph_of_another_shape_is_refused(edge, message):
    with pytest.raises(ValueError, match=message):
        TokenGraph.from_networkx(foreign(edge))
