"""Intervals of proportions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from routegraph.stats.proportions import proportion, wilson


@given(st.integers(0, 60), st.integers(1, 60))
def test_wilson_is_scipys(k, n):
    k = min(k, n)
    low, high = wilson(k, n)
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert float(low) == pytest.approx(theirs.low, abs=1e-12)
    assert float(high) == pytest.approx(theirs.high, abs=1e-12)


def test_wilson_of_nothing_is_no_number():
    assert np.isnan(wilson(0, 0)).all()


def test_intervals_cover_at_their_rate():
    rng = np.random.default_rng(2)
    for truth, total in ((0.02, 80), (0.4, 30), (0.9, 60)):
        found = [proportion(int(count), total) for count in rng.binomial(total, truth, 2000)]
        covered = np.mean([share.low <= truth <= share.high for share in found])
        assert 0.92 < covered < 0.985
    assert proportion(0, 10).low == 0
    assert proportion(10, 10).high == 1
