"""What heads read against its twin, in plain loops."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from routegraph.kernels.heaviest import edges_by_query, heaviest_of_row, read_heads
from tests import naive


@st.composite
def blocks(draw):
    """Logits with ties, of either sign, and more heavy keys than asked for; some so low that they have no weight."""
    group, n_heads, n_queries = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 4))
    start, window = draw(st.integers(0, 200)), draw(st.sampled_from([0, 0, 1, 3, 70]))
    shape = (group * n_heads, n_queries, start + n_queries + draw(st.integers(0, 3)))
    seed = draw(st.integers(0, 2**32 - 1))
    least = draw(st.integers(-4, 2))
    logits = np.random.default_rng(seed).integers(least, draw(st.integers(3, 6)), shape).astype(np.float32)
    logits[logits == least] = draw(st.sampled_from([0.0, -200.0]))
    return logits, start, window, n_heads


def weights_of(logits, start, window):
    """What the kernel makes of every row by itself, the same to the bit; 0 where nothing is seen."""
    weights, entropy = np.zeros_like(logits), np.zeros(len(logits))
    for head, rows in enumerate(logits):
        for query, row in enumerate(rows):
            seen = slice(max(0, start + query + 1 - window) if window else 0, start + query + 1)
            part, n = row[None, None, seen].copy(), len(row[seen])
            spread, scale = np.zeros(1), np.empty((1, 1), np.float32)
            kept, tops = np.empty((1, 1, 102), np.int32), np.empty((2, 1, 1), np.int32)
            found = (
                np.zeros((1, n)),
                spread,
                np.empty((1, 1), np.int64),
                kept,
                kept.astype(np.float32),
                *tops,
                scale,
            )
            read_heads(part, (0, 1), n - 1, 0, 1, np.float32(0.01), 0, *found)
            weights[head, query, seen] = part[0, 0] * scale
            entropy[head] += spread[0]
    return weights, entropy


@given(blocks(), st.integers(2, 5), st.sampled_from([0.05, 0.2, 0.5]), st.integers(0, 1), st.data())
@example((np.zeros((1, 1, 1), np.float32), 0, 0, 1), 2, 0.5, 1, None)
@example((np.zeros((1, 1, 20), np.float32), 19, 0, 1), 2, 0.05, 0, None)
def test_what_heads_read_equals_the_twin(block, top, mass, n_sink, data):
    logits, start, window, n_heads = block
    rows, n_keys, mass = logits.shape[:2], logits.shape[2], np.float32(mass)
    split = data.draw(st.integers(0, rows[0])) if data else 0
    sums, entropy, counts = np.ones((rows[0], n_keys)), np.zeros(rows[0]), np.empty(rows, np.int64)
    tops, beyond = np.empty((2, *rows), np.int32)
    most = top + int(1 / mass) + 1
    keys, values = np.empty((*rows, most), np.int32), np.empty((*rows, most), np.float32)
    found, scales = logits.copy(), np.empty(rows, np.float32)
    for heads in ((0, split), (split, rows[0])):
        into = sums, entropy, counts, keys, values, tops, beyond, scales
        read_heads(found, heads, start, window, top, mass, n_sink, *into)
    edges, slots, weights = edges_by_query(counts, keys, values, rows[0] // n_heads)
    full, spread = weights_of(logits, start, window)
    expected, expected_tops, expected_beyond = naive.heaviest_keys(
        logits.tolist(), full.tolist(), start, n_heads, top, mass, n_sink
    )
    assert (slots.dtype, weights.dtype) == (np.int32, np.float32)
    assert edges.tolist() == [len(row) for row in expected]
    for row, end, count in zip(expected, np.cumsum(edges), edges, strict=True):
        kept = zip(slots[end - count : end].tolist(), weights[end - count : end].tolist(), strict=True)
        assert sorted(kept) == sorted(row)
    assert tops.tolist() == expected_tops
    assert beyond.tolist() == expected_beyond
    assert np.array_equal(found * scales[..., None], full)
    assert np.allclose(sums, 1 + full.sum(axis=1), rtol=1e-6)
    assert np.array_equal(entropy, spread)


def check_heaviest(row, top):
    best, scratch = np.empty(top, np.int64), np.empty(-(-len(row) // 64), np.int64)
    assert heaviest_of_row(row, best, scratch) == row.max()
    places = [2**32 - 1 - (new & (2**32 - 1)) for new in best.tolist() if new > -(2**63)]
    assert sorted(places) == sorted(np.argsort(-row, kind="stable")[:top].tolist())


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=300),
    st.integers(1, 20),
)
def test_the_heaviest_of_a_row_are_numpys(numbers, top):
    # Of 0 and -0 it takes 0 for the larger.
    check_heaviest(np.array(numbers, np.float32) + np.float32(0), top)


@given(st.integers(1, 3000), st.integers(1, 20), st.booleans(), st.integers(0, 2**32 - 1))
def test_the_heaviest_of_a_long_row_are_numpys(n, top, together, seed):
    row = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    check_heaviest(np.sort(row) if together else row, top)
