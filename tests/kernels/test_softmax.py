"""The softmax of a row against scipy's, in double precision."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import softmax, xlogy

from routegraph.kernels.softmax import largest, softmax_row

logit = (
    st.floats(-(2.0**125), 2.0**125, width=32) | st.floats(-90, 5, width=32) | st.sampled_from([0.0, -1.0])
)
rows = st.lists(logit, min_size=1, max_size=200).map(lambda values: np.array(values, np.float32))


def softmax_of(row):
    weights, powers = np.full(len(row), np.nan, np.float32), np.empty(len(row), np.int32)
    return weights, softmax_row(row, weights, powers)


@given(rows)
@example(np.zeros(1, np.float32))
@example(np.array([1e37, -1e37, 1e37], np.float32))
@example(np.array([0.0, -np.inf, -87.3, -87.4], np.float32))
def test_a_row_is_scipys(row):
    found, entropy = softmax_of(row)
    expected = softmax(row.astype(float))
    assert found == pytest.approx(expected, rel=1e-5, abs=3e-38)
    assert entropy == pytest.approx(-xlogy(expected, expected).sum(), abs=2e-5)


@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_long_rows_are_scipys(spread):
    row = (np.random.default_rng(0).standard_normal(8193) * spread).astype(np.float32)
    found, entropy = softmax_of(row)
    expected = softmax(row.astype(float))
    assert found == pytest.approx(expected, rel=1e-5, abs=3e-38)
    assert entropy == pytest.approx(-xlogy(expected, expected).sum(), abs=1e-5)


@given(rows)
def test_the_largest_is_numpys(row):
    assert largest(row, np.empty_like(row)) == row.max()


def test_equal_logits_have_equal_weights_wherever_they_stand():
    row = np.tile(np.array([1.5, -2.25, 0.5], np.float32), 71)
    found, _ = softmax_of(row)
    assert all(len(set(found[first::3].tolist())) == 1 for first in range(3))
