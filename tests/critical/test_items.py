"""Thresholds item by item: against plain loops, and on curves whose make-up is known."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routegraph.critical.items import item_thresholds, item_widths

RATIOS = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.9])


def steps(places: np.ndarray) -> np.ndarray:
    """Return items that are right below their place and wrong from it on."""
    return RATIOS[None] < places[:, None]


@given(st.integers(1, 12).flatmap(lambda n: arrays(np.bool_, (n, len(RATIOS)))))
def test_is_what_plain_loops_find(right):
    right[0, 0] = True
    found = item_thresholds(RATIOS, right)
    items = [row for row in right if row[0]]
    for row, place, returns in zip(items, found.places, found.returns, strict=True):
        last = max(k for k, one in enumerate(row) if one)
        expected = np.nan if last == len(RATIOS) - 1 else (RATIOS[last] + RATIOS[last + 1]) / 2
        assert place == pytest.approx(expected, nan_ok=True)
        assert returns == sum(not a and b for a, b in pairwise(row))
    assert found.kept == pytest.approx(np.mean(items, axis=0))


def test_steps_that_scatter_are_told_from_coins_that_decline():
    rng = np.random.default_rng(0)
    cliffs = item_thresholds(RATIOS, steps(rng.uniform(0.1, 1.0, 400)))
    coins = rng.random((400, len(RATIOS))) < cliffs.kept
    coins[:, 0] = True
    declines = item_thresholds(RATIOS, coins)
    assert cliffs.kept == pytest.approx(declines.kept, abs=0.08)  # the curves look alike
    assert cliffs.stepwise().value == 1
    low, high = declines.stepwise()[1:]
    assert low < 0.05
    assert high > -0.05
    half = item_thresholds(RATIOS, np.vstack([steps(rng.uniform(0.1, 1.0, 200)), coins[:200]]))
    assert 0.3 < half.stepwise().value < 0.7


def test_where_nothing_is_lost_nothing_is_told():
    found = item_thresholds(RATIOS, np.ones((4, len(RATIOS)), bool))
    assert np.isnan(found.stepwise().value)
    assert np.isnan(found.spread().value)
    assert np.isnan(found.places).all()


def test_spread_is_that_of_the_places():
    found = item_thresholds(RATIOS, steps(np.array([0.15, 0.35, 0.55, 0.75, 0.95])))
    assert found.spread() == pytest.approx((0.5, 0.3, 0.7))
    assert np.isnan(found.spread(0.1, 0.95).high)


def test_width_of_one_item():
    falls = np.interp(RATIOS, [0.4, 0.8], [0, 4.0])[None]
    low, high = 0.4 + 0.1 * -np.log(0.9), 0.4 + 0.1 * np.log(10)
    assert item_widths(RATIOS, falls)[0] == pytest.approx(high - low, abs=1e-9)
    assert np.isnan(item_widths(RATIOS, np.zeros((1, len(RATIOS)))))[0]


@pytest.mark.parametrize(
    ("ratios", "right", "says"),
    [
        ([0.0, 0.5], np.ones((2, 3), bool), "of at least 2 ratios, got"),
        ([0.5, 0.0], np.ones((2, 2), bool), "ratios must increase"),
        ([0.0, 0.5], np.zeros((2, 2), bool), "no item is right at the first ratio"),
        ([0.0, 0.5], np.ones((2, 2)), "right must be of booleans, got float64"),
    ],
)
def test_bad_input(ratios, right, says):
    with pytest.raises(ValueError, match=says):
        item_thresholds(ratios, right)
