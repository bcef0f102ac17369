import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from routegraph.kernels.heaviest import heaviest_keys
from tests import naive


@st.composite
def blocks(draw):
    """Rows of attention with ties, zeros and more heavy keys than asked for; the last block of a context."""
    group, n_heads, n_queries = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 4))
    start = draw(st.integers(0, 8))
    shape = (group * n_heads, n_queries, start + n_queries)
    seed = draw(st.integers(0, 2**32 - 1))
    raw = np.random.default_rng(seed).integers(0, draw(st.integers(1, 6)), shape).astype(float)
    raw[..., 0] += draw(st.sampled_from([0, 1]))
    later = np.arange(shape[2]) > start + np.arange(n_queries)[:, None]
    raw[:, later] = 0
    total = raw.sum(axis=-1, keepdims=True)
    return (raw / np.where(total > 0, total, 1)).astype(np.float32), start, n_heads


@given(blocks(), st.integers(2, 5), st.sampled_from([0.05, 0.2, 0.5]), st.integers(0, 1))
@example((np.ones((1, 1, 1), np.float32), 0, 1), 2, 0.5, 1)
@example((np.full((1, 1, 20), 0.05, np.float32), 19, 1), 2, 0.05, 0)
def test_heaviest_keys_equal_their_twin(block, top, mass, n_sink):
    weights, start, n_heads = block
    counts, slots, values, tops, beyond = heaviest_keys(weights, start, n_heads, top, mass, n_sink)
    edges, expected_tops, expected_beyond = naive.heaviest_keys(
        weights.tolist(), start, n_heads, top, np.float32(mass), n_sink
    )
    assert (slots.dtype, values.dtype) == (np.int32, np.float32)
    assert counts.tolist() == [len(row) for row in edges]
    ends = np.cumsum(counts)
    for row, end, count in zip(edges, ends, counts, strict=True):
        found = zip(slots[end - count : end].tolist(), values[end - count : end].tolist(), strict=True)
        assert sorted(found) == sorted(row)
    assert tops.tolist() == expected_tops
    assert beyond.tolist() == expected_beyond
