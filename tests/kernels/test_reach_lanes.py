import numba as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph import TokenGraph
from routegraph.kernels import lanes
from routegraph.routes import unsigned
from routegraph.testing import reach_problems, token_graphs
from tests import naive

BOTH = pytest.mark.parametrize("residual", [True, False], ids=["residual", "reads-only"])
PRUNE = pytest.mark.parametrize("prune", ["columns", "decode"])


def edges_of(graph):
    return graph.indptr, unsigned(graph.slot), tuple(graph.readers)


@nb.njit
def raise_row(below, key, base, row, value, queries, heads, caps, start, stop):
    """The kernel as compiled code calls it."""
    lanes.raise_row(below, key, base, row, value, queries, heads, caps, start, stop)


def reads(graph, layer):
    """Edges of one layer as (head, query, key)."""
    rows = zip(*(column.tolist() for column in graph.edges()), strict=True)
    return [(head, query, key) for at, head, query, key in rows if at == layer]


@given(st.booleans().flatmap(lambda causal: token_graphs(causal=causal, max_edges=40)))
def test_readers_are_the_edges_in_pairs_and_busy_keys_come_last(graph):
    order, starts, queries, heads = graph.readers
    assert starts[0] == 0
    assert starts[-1] == len(queries) == len(heads)
    for layer in range(1, graph.n_layers + 1):
        keys = order[layer - 1].tolist()
        assert sorted(keys) == list(range(graph.n_tokens))
        spans = [slice(*starts[(layer - 1) * graph.n_tokens + k :][:2]) for k in range(graph.n_tokens)]
        sizes = [(span.stop - span.start, key) for key, span in zip(keys, spans, strict=True)]
        assert sizes == sorted(sizes)
        found = []
        for key, span in zip(keys, spans, strict=True):
            for head, pair in zip(heads[span].tolist(), queries[span].tolist(), strict=True):
                found += [(head, query, key) for query in pair]
        twin = []
        for head in range(graph.n_heads):
            for key in range(graph.n_tokens):
                readers = [edge for edge in reads(graph, layer) if (edge[0], edge[2]) == (head, key)]
                # The odd one out is the last reader, twice.
                twin += readers + readers[-1:] * (len(readers) % 2)
        assert sorted(found) == sorted(twin)


@pytest.mark.parametrize(("n_tokens", "n_heads"), [(255, 255), (256, 256), (257, 1), (1, 257)])
def test_readers_hold_the_last_query_and_head(n_tokens, n_heads):
    last = n_tokens - 1
    graph = TokenGraph.from_edges(1, n_heads, n_tokens, [1], [n_heads - 1], [last], [last])
    assert graph.readers.queries.tolist() == [[last, last]]
    assert graph.readers.heads.tolist() == [n_heads - 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@given(seed=st.integers(0, 2**32 - 1), n_pairs=st.integers(0, 9))
def test_raise_row_equals_twin(dtype, seed, n_pairs):
    rng = np.random.default_rng(seed)
    most = min(np.iinfo(dtype).max, 2**32 - 1)
    value, base = (rng.integers(0, most, (6, lanes.WIDTH), dtype, endpoint=True) for _ in range(2))
    queries = rng.integers(0, 6, (n_pairs, 2)).astype(np.uint16)
    heads = rng.integers(0, 3, n_pairs).astype(np.uint8)
    caps = rng.integers(0, most, (3, 6), dtype, endpoint=True)
    caps[0] = most
    below = np.zeros_like(value)
    start = n_pairs // 3
    raise_row(below, 4, base, 2, value, queries, heads, caps, start, n_pairs)
    twin = base[2].tolist()
    for pair in range(start, n_pairs):
        cap = int(caps[heads[pair], 4])
        for query in queries[pair]:
            twin = [max(b, min(int(v), cap)) for b, v in zip(twin, value[query], strict=True)]
    assert below[4].tolist() == twin
    assert not np.delete(below, 4, axis=0).any()


@PRUNE
@BOTH
@settings(max_examples=30)
@given(reach_problems(), st.sampled_from([np.uint8, np.uint16, np.uint32]), st.integers(0, 2**32 - 1))
def test_lanes_pass_equals_twin_in_every_lane(prune, residual, problem, dtype, seed):
    graph, survival, _ = problem
    top = survival.max_level + 1
    value, below = np.zeros((2, graph.n_tokens + 1, lanes.WIDTH), dtype)
    generator = np.random.default_rng(seed)
    sources = generator.choice(graph.n_tokens, generator.integers(1, graph.n_tokens, endpoint=True), False)
    value[sources] = generator.integers(0, top, (len(sources), lanes.WIDTH), endpoint=True)
    below[:-1] = top  # scratch: what it holds must not matter
    start = value[:-1].T.tolist()
    arrays = *edges_of(graph), survival.drop, np.empty(0, dtype)
    got = lanes.lanes_pass(value, below, sources, *arrays, prune == "columns", residual)
    assert not got[-1].any()
    for lane in range(0, lanes.WIDTH, 7):
        twin = start[lane]
        for layer in range(graph.n_layers, 0, -1):
            twin = naive.carry_down(
                twin, reads(graph, layer), survival.drop[layer - 1].tolist(), prune, residual
            )
        assert got[:-1, lane].tolist() == twin


@settings(max_examples=20)
@given(reach_problems(), st.data())
def test_a_grid_coarsens_the_levels_and_nothing_else(problem, data):
    graph, survival, _ = problem
    top = survival.max_level + 1
    steps = data.draw(st.lists(st.integers(0, 3), min_size=top, max_size=top))
    grid = np.concatenate([[0], np.cumsum(steps)]).astype(np.uint32)
    fine, below = np.zeros((2, graph.n_tokens + 1, lanes.WIDTH), np.uint16)
    fine[0, :] = top
    coarse, scratch = grid[fine].astype(np.uint8), below.astype(np.uint8)
    source, arrays = np.zeros(1, np.int64), (*edges_of(graph), survival.drop)
    exact = lanes.lanes_pass(fine, below, source, *arrays, np.empty(0, np.uint16), True, True)
    got = lanes.lanes_pass(coarse, scratch, source, *arrays, grid.astype(np.uint8), True, True)
    assert np.array_equal(got, grid[exact])
