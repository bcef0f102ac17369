import networkx as nx
import numba as nb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.kernels.newman_ziff import largest_clusters
from routegraph.kernels.union_find import newman_ziff, shuffled

# In pure-Python mode uint64 scalars wrap around as they should, but numpy says so.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")


@given(st.data(), st.integers(1, 9), st.integers(0, 2**64 - 1))
def test_largest_cluster_after_every_bond(data, n_nodes, key):
    node = st.integers(0, n_nodes - 1)
    bonds = np.array(data.draw(st.lists(st.tuples(node, node), max_size=20)), np.int64).reshape(-1, 2)
    got = largest_clusters(bonds[:, 0].copy(), bonds[:, 1].copy(), n_nodes, np.uint64(key))
    graph = nx.empty_graph(n_nodes)
    for step, bond in enumerate(shuffled(np.uint64(key), len(bonds))):
        graph.add_edge(*bonds[bond].tolist())
        assert got[step] == max(map(len, nx.connected_components(graph)))


@pytest.mark.skipif(bool(nb.config.DISABLE_JIT), reason="slow in pure Python")
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_a_large_graph_equals_the_plain_sweep(dtype):
    bonds = np.random.default_rng(0).integers(0, 20_000, (30_000, 2))
    key = np.uint64(7)
    twin = newman_ziff(bonds, 20_000, shuffled(key, len(bonds)))[0]
    first, second = np.ascontiguousarray(bonds.T).astype(dtype)
    assert np.array_equal(largest_clusters(first, second, 20_000, key), twin)
