import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.kernels import union_find

# In pure-Python mode uint64 scalars wrap around as they should, but numpy says so.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


@st.composite
def graphs(draw):
    n = draw(st.integers(1, 14))
    node = st.integers(0, n - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=25))
    return n, np.array(edges, np.int32).reshape(-1, 2)


def csr(n, edges):
    lists = [[] for _ in range(n)]
    for a, b in edges.tolist():
        lists[a].append(b)
        lists[b].append(a)
    indptr = np.cumsum([0] + [len(x) for x in lists])
    return indptr, np.array([b for x in lists for b in x], np.int32)


def clusters(nodes, edges):
    """Sizes of the connected components, by networkx."""
    graph = nx.Graph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from((a, b) for a, b in edges if a in graph and b in graph)
    return [len(c) for c in nx.connected_components(graph)], graph


@given(graphs(), st.randoms(use_true_random=False))
def test_bonds_equal_networkx_after_each_bond(case, random):
    n, edges = case
    order = random.sample(range(len(edges)), len(edges))
    largest, squares = union_find.newman_ziff(edges, n, np.array(order, np.int64))
    for step in range(len(order)):
        sizes, _ = clusters(range(n), edges[order[: step + 1]].tolist())
        assert largest[step] == max(sizes)
        assert squares[step] == sum(s * s for s in sizes)


@given(graphs(), st.randoms(use_true_random=False))
def test_sites_equal_networkx_after_each_site(case, random):
    n, edges = case
    order = random.sample(range(n), n)
    largest, squares = union_find.newman_ziff_sites(*csr(n, edges), np.array(order, np.int64))
    for step in range(n):
        sizes, _ = clusters(order[: step + 1], edges.tolist())
        assert largest[step] == max(sizes)
        assert squares[step] == sum(s * s for s in sizes)


def crosses(graph, sides):
    return any({1, 2} <= {int(sides[i]) for i in c} for c in nx.connected_components(graph))


@given(graphs(), st.data(), st.integers(0, 2**64 - 1))
def test_crossing_equals_networkx(case, data, number):
    n, edges = case
    sides = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.uint8)
    key = np.uint64(number)
    order = union_find.shuffled(key, len(edges))
    expected = next(
        (
            step
            for step in range(1, len(edges) + 1)
            if crosses(clusters(range(n), edges[order[:step]].tolist())[1], sides)
        ),
        len(edges) + 1,
    )
    assert union_find.bonds_to_cross(edges, sides, key) == expected
    order = union_find.shuffled(key, n).tolist()
    expected = next(
        (s for s in range(1, n + 1) if crosses(clusters(order[:s], edges.tolist())[1], sides)), n + 1
    )
    assert union_find.sites_to_cross(*csr(n, edges), sides, key) == expected


@given(graphs(), st.integers(0, 6), st.data())
def test_sweep_equals_networkx_at_each_level(case, max_level, data):
    n, edges = case
    size = len(edges)
    levels = st.lists(st.integers(0, max_level + 1), min_size=size, max_size=size)
    birth = np.array(data.draw(levels), np.int64)
    found = union_find.sweep(edges[:, 0].copy(), edges[:, 1].copy(), birth, n, max_level)
    for level in range(max_level + 1):
        sizes, _ = clusters(range(n), edges[birth > level].tolist())
        assert found[level] == max(sizes)


def test_shuffle_is_uniform():
    orders = [tuple(union_find.shuffled(np.uint64(k), 3).tolist()) for k in range(6000)]
    counts = [orders.count(o) for o in sorted(set(orders))]
    assert len(counts) == 6
    assert max(abs(c - 1000) for c in counts) < 5 * np.sqrt(1000 * 5 / 6)


@given(graphs(), st.integers(0, 6), st.data())
def test_levels_of_joining_equal_networkx_at_each_level(case, max_level, data):
    n, edges = case
    size = len(edges)
    levels = st.lists(st.integers(0, max_level + 1), min_size=size, max_size=size)
    birth = np.array(data.draw(levels), np.int64)
    sources = np.array(sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1))))
    bonds = edges[:, 0].copy(), edges[:, 1].copy(), birth
    found = union_find.levels_of_joining(*bonds, sources, n, max_level)
    for level in range(max_level + 1):
        _, alive = clusters(range(n), edges[birth > level].tolist())
        joined = set().union(*(nx.node_connected_component(alive, s) for s in sources.tolist()))
        assert set(np.flatnonzero(found > level).tolist()) == joined
