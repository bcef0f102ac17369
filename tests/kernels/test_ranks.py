from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import chdtrc

from routegraph.kernels import ranks
from tests import naive

# In pure-Python mode uint64 scalars wrap around as they should, but numpy says so.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

KEY = np.uint64(20260301)


@given(st.integers(0, 2**64 - 1), st.integers(1, 200), st.integers(0, 200), st.integers(0, 12))
def test_permutation_equals_twin(key, layer, head, n):
    out = np.empty(n, np.int32)
    ranks.permutation(np.uint64(key), layer, head, out)
    assert out.tolist() == naive.permutation(key, layer, head, n)
    assert sorted(out) == list(range(1, n + 1))


@given(st.integers(0, 2**64 - 1), st.integers(1, 3), st.integers(1, 3), st.integers(1, 6))
def test_permutations_are_those_of_each_layer_and_head(key, n_layers, n_heads, n):
    table = ranks.permutations(np.uint64(key), n_layers, n_heads, n)
    assert table.shape == (n_layers, n_heads, n)
    for layer in range(n_layers):
        for head in range(n_heads):
            assert table[layer, head].tolist() == naive.permutation(key, layer + 1, head, n)


@given(st.integers(0, 2**64 - 1), st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 99))
def test_random_levels_equal_twin(key, n_layers, n_heads, n, top):
    table = ranks.random_levels(np.uint64(key), n_layers, n_heads, n, top)
    for layer in range(n_layers):
        for head in range(n_heads):
            numbers = naive.stream(key, layer + 1, head)
            assert table[layer, head].tolist() == [naive.below(numbers, i, 0, top) + 1 for i in range(n)]


def even(counts, cells, total):
    """p value of the hypothesis that `total` draws fall evenly into `cells` cells."""
    expected = total / cells
    seen = sum((count - expected) ** 2 / expected for count in counts.values())
    return chdtrc(cells - 1, seen + (cells - len(counts)) * expected)


@pytest.fixture(scope="module")
def shuffles():
    with np.errstate(over="ignore"):
        return {n: ranks.permutations(KEY, 48, 50, n) for n in (3, 4)}


def test_all_24_permutations_of_four_are_equally_likely(shuffles):
    counts = Counter(tuple(order) for order in shuffles[4].reshape(-1, 4).tolist())
    assert 1e-3 < even(counts, 24, 2400) < 1 - 1e-3


@pytest.mark.parametrize(("layers", "heads"), [(1, 0), (0, 1), (1, 1), (7, 0)])
def test_permutations_of_two_slots_are_independent(shuffles, layers, heads):
    table = shuffles[3]
    left = table[: len(table) - layers, : table.shape[1] - heads]
    right = table[layers:, heads:]
    pairs = np.concatenate([left, right], axis=-1).reshape(-1, 6)
    counts = Counter(tuple(pair) for pair in pairs.tolist())
    assert 1e-3 < even(counts, 36, len(pairs)) < 1 - 1e-3


@st.composite
def merges(draw):
    """Scores [heads, n] full of ties, and safe[n + 1] that falls by at most one a level and leaves room."""
    n = draw(st.integers(1, 6))
    values = draw(hnp.arrays(np.float64, (draw(st.integers(1, 3)), n), elements=st.integers(0, 3)))
    safe = [0]
    for left in range(1, n + 1):
        safe.append(min(left, safe[-1] + draw(st.integers(0, 1))))
    return values, np.array(safe[::-1])


@given(merges())
def test_merge_with_safeguard_equals_a_cut_at_every_level(case):
    values, safe = case
    heads = values.tolist()
    n_heads, n = values.shape
    order = np.array([sorted(range(n), key=lambda i, head=head: (head[i], -i)) for head in heads])
    drop = ranks.merge_with_safeguard(values, order, safe)
    assert drop.dtype == np.int32
    for level in range(n + 1):
        kept = naive.shared_cut(heads, int(safe[level]), n_heads * level)
        assert [set(np.flatnonzero(row > level)) for row in drop] == kept
