import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from routegraph.kernels.heaviest import edges_by_query, read_heads
from routegraph.kernels.softmax import softmax_row
from tests import naive


@st.composite
def blocks(draw):
    """Logits with ties, and more heavy keys than asked for; some keys so low that they have no weight."""
    group, n_heads, n_queries = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 4))
    start, window = draw(st.integers(0, 80)), draw(st.sampled_from([0, 0, 1, 3, 70]))
    shape = (group * n_heads, n_queries, start + n_queries)
    seed = draw(st.integers(0, 2**32 - 1))
    logits = np.random.default_rng(seed).integers(0, draw(st.integers(1, 6)), shape).astype(np.float32)
    logits[logits == 0] = draw(st.sampled_from([0.0, -200.0]))
    return logits, start, window, n_heads


def weights_of(logits, start, window):
    """Softmax by the kernel's own function, so that weights are the same to the bit; 0 where nothing is seen."""
    weights = np.zeros_like(logits)
    entropy = np.zeros(len(logits))
    for head, rows in enumerate(logits):
        for query, row in enumerate(rows):
            seen = slice(max(0, start + query + 1 - window) if window else 0, start + query + 1)
            entropy[head] += softmax_row(
                row[seen], weights[head, query, seen], np.empty(len(row[seen]), np.int32)
            )
    return weights, entropy


@given(blocks(), st.integers(2, 5), st.sampled_from([0.05, 0.2, 0.5]), st.integers(0, 1), st.data())
@example((np.zeros((1, 1, 1), np.float32), 0, 0, 1), 2, 0.5, 1, None)
@example((np.zeros((1, 1, 20), np.float32), 19, 0, 1), 2, 0.05, 0, None)
def test_what_heads_read_equals_the_twin(block, top, mass, n_sink, data):
    logits, start, window, n_heads = block
    rows, n_keys = logits.shape[:2], logits.shape[2]
    split = data.draw(st.integers(0, rows[0])) if data else 0
    sums, entropy, counts = np.ones((rows[0], n_keys)), np.zeros(rows[0]), np.empty(rows, np.int64)
    tops, beyond = np.empty((2, *rows), np.int32)
    most = top + int(1 / mass) + 1
    keys, values = np.empty((*rows, most), np.int32), np.empty((*rows, most), np.float32)
    for heads in ((0, split), (split, rows[0])):
        into = sums, entropy, counts, keys, values, tops, beyond
        read_heads(logits, heads, start, window, top, mass, n_sink, *into)
    edges, slots, weights = edges_by_query(counts, keys, values, rows[0] // n_heads)
    full, spread = weights_of(logits, start, window)
    expected, expected_tops, expected_beyond = naive.heaviest_keys(
        full.tolist(), start, n_heads, top, np.float32(mass), n_sink
    )
    assert (slots.dtype, weights.dtype) == (np.int32, np.float32)
    assert edges.tolist() == [len(row) for row in expected]
    for row, end, count in zip(expected, np.cumsum(edges), edges, strict=True):
        found = zip(slots[end - count : end].tolist(), weights[end - count : end].tolist(), strict=True)
        assert sorted(found) == sorted(row)
    assert tops.tolist() == expected_tops
    assert beyond.tolist() == expected_beyond
    assert np.array_equal(sums, 1 + full.astype(float).sum(axis=1)) or np.allclose(sums, 1 + full.sum(axis=1))
    assert np.array_equal(entropy, spread)
