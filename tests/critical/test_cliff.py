"""Cliffs and gradual declines of measured counts."""

import numpy as np
import pytest

from routegraph.critical.cliff import DROP, fit_cliff, log_likelihood, mix, polynomial
from routegraph.critical.counts import fit_counts, fit_items
from routegraph.critical.fit import fit_critical
from tests.helpers.curves import ASKED, within


def test_a_cliff_is_told_from_a_gradual_decline():
    rng, found = np.random.default_rng(12), []
    rates = {
        "cliff": 0.1 + 0.7 / (1 + np.exp(-(ASKED - 0.82) / 0.015)),
        "line": 0.1 + 0.6 * ASKED,
        "bend": 0.1 + 0.6 * ASKED**2,
    }
    for rate in rates.values():
        found.append([fit_cliff(ASKED, rng.binomial(100, rate), 100, 100, s).verdict for s in range(6)])
    assert found[0].count("cliff") >= 5
    assert found[1].count("cliff") <= 1
    assert found[2].count("cliff") <= 1
    assert found[1].count("gradual") >= 4


def test_counts_through_fit_critical_in_both_shapes():
    counts = np.array([9, 8, 11, 10, 12, 11, 30, 78, 82, 80])
    first = fit_critical(ASKED, counts, trials=np.full(10, 100))
    second = fit_critical(ASKED, trials=np.stack([counts, np.full(10, 100)], axis=1))
    assert first.to_dict() == second.to_dict()
    assert first.verdict == "cliff"
    assert (
        0.79 <= first.ci[0] <= first.alpha_c <= first.ci[1] <= 0.83
    )  # .30 at .8, .78 at .85: half of it between them
    assert first.details["width"]["high"] < 0.15
    assert "p = " in first.evidence[1]
    falling = fit_critical(ASKED, 100 - counts, trials=np.full(10, 100))
    assert falling.alpha_c == pytest.approx(first.alpha_c, abs=0.01)


def test_a_cliff_between_two_ratios_is_known_to_the_gap_only():
    fit = fit_critical([0, 0.3, 0.6, 0.9, 0.95], [2, 3, 2, 38, 39], trials=[40] * 5)
    assert fit.ci[0] <= 0.65
    assert fit.ci[1] >= 0.85


def test_few_items_widen_the_interval():
    rate = 0.1 + 0.7 / (1 + np.exp(-(ASKED - 0.7) / 0.05))
    widths = []
    for n in (10, 100, 1000):
        fit = fit_critical(ASKED, np.rint(n * rate), trials=np.full(10, n))
        widths.append(fit.ci[1] - fit.ci[0])
        within(fit.alpha_c, fit.ci, 0.7)
    assert widths[0] > widths[1] > widths[2]
    assert any(
        "only 10 items" in w for w in fit_critical(ASKED, np.rint(10 * rate), trials=[10] * 10).warnings
    )


@pytest.mark.parametrize(
    ("counts", "trials", "words"),
    [
        ([5] * 10, [10] * 10, "all rates are equal"),
        ([11] + [5] * 9, [10] * 10, "counts must be whole numbers"),
        ([0.5] + [5] * 9, [10] * 10, "counts must be whole numbers"),
        (None, [10] * 10, "pairs"),
        ([5] * 9, [10] * 9, "4 ratios with one count each"),
    ],
)
def test_bad_counts_are_named(counts, trials, words):
    with pytest.raises(ValueError, match=words):
        fit_critical(ASKED, counts, trials=trials)


def test_flat_rates_are_called_flat():
    counts = np.random.default_rng(3).binomial(50, 0.3, 10)
    assert fit_critical(ASKED, counts, trials=[50] * 10).verdict == "flat"


def test_the_inner_fits_reach_the_likelihood_of_an_optimiser():
    from scipy.optimize import minimize

    rng = np.random.default_rng(5)
    n = np.full(10, 60.0)
    k = rng.binomial(60, 0.2 + 0.5 * ASKED).astype(float)
    shape = 1 / (1 + np.exp(-(ASKED - 0.6) / 0.1))
    before, after, value = mix(k, n, shape, 300)
    best = minimize(
        lambda t: -log_likelihood(k, n, t[0] * (1 - shape) + t[1] * shape),
        [before, after],
        method="Nelder-Mead",
    )
    assert value == pytest.approx(-best.fun, abs=1e-4)
    line = polynomial(k, n, ASKED, 1)
    best = minimize(lambda t: -log_likelihood(k, n, t[0] + t[1] * ASKED), [0.2, 0.5], method="Nelder-Mead")
    assert log_likelihood(k, n, line) == pytest.approx(-best.fun, abs=1e-3)


def stepping(rng, n, place=0.5, scale=0.08):
    """Items that are right below a place of their own, which scatter by a logistic."""
    return rng.logistic(place, scale, (n, 1)) > ASKED


def test_items_that_hang_together_widen_the_interval_and_independent_ones_do_not():
    rng = np.random.default_rng(30)
    steps, coins = stepping(rng, 60), rng.random((60, 10)) < 1 / (1 + np.exp((ASKED - 0.5) / 0.08))
    for table, wider in ((steps, 1.15), (coins, 1.0)):
        known = fit_cliff(ASKED, table.sum(axis=0), 60, 1, outcomes=table)
        alone = fit_cliff(ASKED, table.sum(axis=0), 60, 1)
        assert known.alpha_c.value == pytest.approx(alone.alpha_c.value, abs=0.01)
        ratio = (known.alpha_c.high - known.alpha_c.low) / (alone.alpha_c.high - alone.alpha_c.low)
        assert wider <= ratio < 1.1 + (wider > 1)
        assert known.width.high - known.width.low >= alone.width.high - alone.width.low - 1e-9


def test_items_are_told_from_counts_whose_items_are_not_known():
    table = stepping(np.random.default_rng(31), 60)
    known = fit_items(ASKED, table, observable="right")
    assert (known.details["items"], known.details["counts"]) == (60, table.sum(axis=0).tolist())
    assert any("60 items, the same at every ratio, resampled" in told for told in known.evidence)
    assert not any("items are behind" in told for told in known.warnings)
    assert fit_items(ASKED, table, observable="right").to_dict() == known.to_dict()
    alone = fit_counts(ASKED, table.sum(axis=0), 60)
    assert alone.details["items"] is None
    assert any("which items are behind the counts is not known" in told for told in alone.warnings)


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        (np.ones((3, 10)), "outcomes must be of booleans, got float64"),
        (np.ones((3, 9), bool), r"outcomes must be \[n_items, 10\] of at least 1 item, got \[3, 9\]"),
        (np.ones((0, 10), bool), "of at least 1 item"),
        (np.ones((3, 10), bool), "all rates are equal"),
    ],
)
def test_bad_items_are_named(outcomes, words):
    with pytest.raises(ValueError, match=words):
        fit_items(ASKED, outcomes)


def test_a_hump_is_no_cliff():
    counts = [5, 10, 30, 60, 80, 78, 50, 20, 8, 5]
    fit = fit_cliff(np.linspace(0, 0.9, 10), counts, 100, 20)
    assert any("no single step describes the rates" in told for told in fit.warnings)
    step = fit_cliff(ASKED, [9, 8, 11, 10, 12, 11, 30, 78, 82, 80], 100, 20)
    assert not any("no single step" in told for told in step.warnings)


def test_ends_of_a_profile_are_where_the_likelihood_has_dropped():
    """One parameter known: against the likelihood at the ends, on a grid a hundred times as fine."""
    counts, n = np.array([2, 3, 5, 12, 20, 33, 52, 55, 58, 59.0]), np.full(10, 60.0)
    found = fit_cliff(ASKED, counts, n, 1)
    scales = np.geomspace(0.005, 0.5, 200)

    def best(place):
        shape = 1 / (1 + np.exp(-np.clip((ASKED - place) / scales[:, None], -500, 500)))
        return mix(counts, n, shape, 300)[2].max()

    top = max(best(place) for place in np.linspace(found.alpha_c.low, found.alpha_c.high, 60))
    for end in (found.alpha_c.low, found.alpha_c.high):
        assert 2 * (top - best(end)) == pytest.approx(DROP, abs=0.25)
