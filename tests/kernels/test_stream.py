import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph.kernels import stream
from tests import naive

# In pure-Python mode uint64 scalars wrap around as they should, but numpy says so.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

keys = st.integers(0, 2**64 - 1)
rows = st.lists(st.integers(0, 9), min_size=1, max_size=12)


def reads_of(key, layer, head, degree, width, queries):
    """(head, query, key) of every read."""
    numbers = naive.stream(key, layer, head)
    return [
        (head, query, query - naive.below(numbers, query, draw, min(query + 1, width)))
        for query in queries
        for draw in range(degree)
    ]


@given(keys, rows, st.integers(1, 3), st.integers(1, 14), st.data())
def test_scatter_recent_takes_the_best_reader_of_each_key(key, values, degree, width, data):
    start = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(start, len(values)))
    best = np.array(
        data.draw(st.lists(st.integers(0, 9), min_size=len(values), max_size=len(values))), np.uint16
    )
    twin = best.tolist()
    for _, query, read in reads_of(key, 5, 2, degree, width, range(start, stop)):
        twin[read] = max(twin[read], values[query])
    stream.scatter_recent(np.array(values, np.uint16), best, np.uint64(key), 5, 2, degree, width, start, stop)
    assert best.tolist() == twin


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("prune", ["columns", "decode"])
@settings(max_examples=40)
@given(
    keys,
    keys,
    rows,
    st.integers(0, 2),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 14),
    st.integers(0, 9),
    st.sampled_from([np.uint16, np.int32]),
    st.data(),
)
def test_random_layer_equals_twin(
    prune, residual, edge_key, rank_key, values, after, n_heads, degree, width, top, dtype, data
):
    split = data.draw(st.integers(0, n_heads), label="heads of the first thread")
    n_context = max(len(values) - after, 0)
    reads, drops = [], []
    for head in range(n_heads):
        reads += reads_of(edge_key, 3, head, degree, width, range(len(values)))
        numbers = naive.stream(rank_key, 3, head)
        levels = [naive.below(numbers, i, 0, top) + 1 for i in range(n_context)]
        drops.append(levels if top else naive.permutation(rank_key, 3, head, n_context))
    value, best = np.array(values, dtype), np.zeros(len(values), dtype)
    drop = np.empty(n_context, dtype)
    pair = np.uint64(edge_key), np.uint64(rank_key)
    some = []
    for heads in ((0, split), (split, n_heads)):
        below, last = np.full(len(values), 77, dtype), np.full(n_context, 77, dtype)
        shape = 3, heads, degree, width, top
        stream.random_layer(value, below, best, drop, last, *pair, *shape, prune == "columns", residual)
        some.append((below, last))
    below, last = (np.maximum(*pair) for pair in zip(*some, strict=True))
    assert below.tolist() == naive.carry_down(values, reads, drops, prune, residual)
    assert last.tolist() == [max(levels) for levels in zip(*drops, strict=True)]
    assert value.tolist() == values
    assert not best.any()


@given(st.integers(1, 4), st.integers(0, 6), st.data())
def test_last_of_heads_and_tally(n_heads, n, data):
    level = st.integers(1, 9)
    drop = [data.draw(st.lists(level, min_size=n, max_size=n)) for _ in range(n_heads)]
    last = np.full(n, 77, np.uint16)
    stream.last_of_heads(np.array(drop, np.int32).reshape(n_heads, n), last)
    assert last.tolist() == [max(levels) for levels in zip(*drop, strict=True)]
    counts = np.ones(10, np.int64)
    stream.tally(last, counts)
    assert counts.tolist() == [1 + last.tolist().count(level) for level in range(10)]
