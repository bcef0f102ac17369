"""Paired shares: exact tests against scipy, intervals against the likelihood, power against enumeration."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest

from routegraph.stats.paired import LEAST_FLIPS, detectable, mcnemar, paired_difference

counts = st.integers(0, 400)


@given(counts, counts)
def test_mcnemar_is_the_binomial_test_of_the_flips(one, other):
    wanted = binomtest(one, one + other, 0.5).pvalue if one + other else 1.0
    assert mcnemar(one, other) == pytest.approx(wanted, rel=1e-9)
    assert mcnemar(one, other) == mcnemar(other, one)


def test_six_flips_one_way_are_the_fewest_that_count():
    assert mcnemar(LEAST_FLIPS, 0) < 0.05 <= mcnemar(LEAST_FLIPS - 1, 0)


def score(gained, lost, n, difference):
    """The score statistic, the nuisance share found by a search over the likelihood."""
    low, high = max(0.0, -difference), (1 - difference) / 2

    def unlikely(share):
        cells = ((gained, share + difference), (lost, share), (n - gained - lost, 1 - 2 * share - difference))
        return -sum(k * math.log(max(p, 1e-300)) for k, p in cells if k)

    share = minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (gained - lost - n * difference) / math.sqrt(n * (2 * share + difference - difference**2))


@given(st.integers(1, 200), st.data())
def test_the_ends_are_what_the_score_test_just_does_not_reject(n, data):
    gained = data.draw(st.integers(0, n))
    lost = data.draw(st.integers(0, n - gained))
    found = paired_difference(gained, lost, n)
    assert -1 <= found.low <= found.value == (gained - lost) / n <= found.high <= 1
    for end in (found.low, found.high):
        if abs(end) < 0.999:
            assert abs(score(gained, lost, n, end)) == pytest.approx(1.96, abs=0.01)
    turned = paired_difference(lost, gained, n)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


def test_it_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    shares = np.array([0.03, 0.1, 0.87])
    draws = rng.multinomial(120, shares, size=2000)
    inside = 0
    for gained, lost, _ in draws:
        found = paired_difference(int(gained), int(lost), 120)
        inside += found.low <= shares[0] - shares[1] <= found.high
    assert 0.935 <= inside / 2000 <= 0.97


@pytest.mark.parametrize("n", [6, 7, 60, 1000])
def test_what_can_be_seen_is_seen_with_the_power_that_is_told(n):
    p = detectable(n)
    assert binom.sf(LEAST_FLIPS - 1, n, p) == pytest.approx(0.8)


def test_too_few_items_show_nothing():
    assert math.isnan(detectable(5))
    assert math.isnan(paired_difference(0, 0, 0).value)
    with pytest.raises(ValueError, match="at most 3 together, got 2 and 2"):
        paired_difference(2, 2, 3)
    with pytest.raises(ValueError, match="at least 0, got -1 and 2"):
        mcnemar(-1, 2)
