"""Two shares of the same items: exact p-values against scipy's, intervals by how often they hold the truth."""

import numpy as np
import pytest
from scipy.stats import binomtest

from routegraph.stats.paired import paired_difference, sign_test


def test_the_sign_test_is_exact():
    rng = np.random.default_rng(0)
    more, fewer = rng.integers(0, 20, (2, 200))
    wanted = [binomtest(a, a + b).pvalue if a + b else 1.0 for a, b in zip(more, fewer, strict=True)]
    np.testing.assert_allclose(sign_test(more, fewer), wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("n", "p", "q", "together", "most"),
    [(20, 0.9, 0.6, 0.6, 0.99), (40, 0.97, 0.9, 0.9, 1.0), (80, 0.5, 0.5, 0.3, 0.97)],
)
def test_intervals_hold_the_truth(n, p, q, together, most):
    """Shares p and q, both with a given chance: of 4000 samples the interval holds p - q in 95 %, or more near 1."""
    rng = np.random.default_rng(1)
    draw = rng.random((n, 4000))
    one = draw < p
    two = (draw < together) | ((draw >= p) & (draw < p + q - together))
    value, low, high = paired_difference(one, two)
    np.testing.assert_allclose(value, one.mean(axis=0) - two.mean(axis=0))
    assert ((low <= value) & (value <= high)).all()
    held = ((low <= p - q) & (p - q <= high)).mean()
    assert 0.93 < held <= most


def test_it_turns_with_the_order_and_closes_nowhere_too_soon():
    rng = np.random.default_rng(2)
    one, two = rng.random((2, 30, 50)) < 0.7
    value, low, high = paired_difference(one, two)
    other, under, over = paired_difference(two, one)
    np.testing.assert_allclose([value, low, high], [-other, -over, -under], atol=1e-12)
    _, low, high = paired_difference(np.ones((10, 1), bool), np.ones((10, 1), bool))
    assert low[0] < -0.1 < 0.1 < high[0]
