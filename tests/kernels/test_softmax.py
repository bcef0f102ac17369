"""The softmax of a row against scipy's, in double precision."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import softmax, xlogy

from routegraph.kernels.softmax import CHUNK, exponentials

logit = (
    st.floats(-(2.0**125), 2.0**125, width=32) | st.floats(-90, 5, width=32) | st.sampled_from([0.0, -1.0])
)
rows = st.lists(logit, min_size=1, max_size=2 * CHUNK).map(lambda values: np.array(values, np.float32))


def softmax_of(row):
    weights = row.copy()
    scale, entropy = exponentials(weights, row.max())
    return weights * scale, entropy


@given(rows)
@example(np.zeros(1, np.float32))
@example(np.array([1e37, -1e37, 1e37], np.float32))
@example(np.array([0.0, -np.inf, -87.3, -87.4, -88.1], np.float32))
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


def test_an_exponential_is_off_by_a_floats_rounding():
    row = np.concatenate([[0.0], -np.random.default_rng(1).random(4000) * 40]).astype(np.float32)
    found = row.copy()
    exponentials(found, np.float32(0))
    assert found[0] == 1
    # The power of 2 is a float, too: its rounding is its size times 2**-24.
    allowed = 2.5e-7 + np.abs(row) * 2.0**-23
    assert (np.abs(found / np.exp(row.astype(float)) - 1) <= allowed).all()


def test_equal_logits_have_equal_weights_wherever_they_stand():
    row = np.tile(np.array([1.5, -2.25, 0.5], np.float32), 71)
    found, _ = softmax_of(row)
    assert all(len(set(found[first::3].tolist())) == 1 for first in range(3))
