"""What the fits are put together from: estimators, and scaled curves."""

import numpy as np
import pytest

from routegraph.critical import binder, collapse, slopes
from routegraph.critical.fit import fit_critical
from routegraph.stats import bootstrap
from studies import coverage


def test_moment_ratios_are_those_of_the_samples():
    samples = np.random.default_rng(0).normal(size=(2, 4000, 3)) + np.array([0, 1, 5.0])
    data = bootstrap.resample(np.arange(3.0), samples, np.array([1.0, 2.0]), 20, 0)
    second, fourth = (samples**2).mean(axis=1), (samples**4).mean(axis=1)
    np.testing.assert_allclose(binder.binder(data)[0], second**2 / fourth)
    np.testing.assert_allclose(binder.second_moment(data)[0], samples.mean(axis=1) ** 2 / second)
    assert binder.binder(data)[0, :, 0] == pytest.approx(1 / 3, rel=0.1)  # a Gaussian: U = 0
    np.testing.assert_allclose(data.variance[0], samples.var(axis=1, ddof=1))
    spread = data.mean[1:].std(axis=0)
    np.testing.assert_allclose(spread, data.stderr, rtol=0.6)


def test_peak_of_a_parabola_is_exact_on_an_uneven_grid():
    x = np.array([0.0, 0.1, 0.25, 0.3, 0.5, 0.9])
    place, height, edge = slopes.peak_of(x, np.stack([2 - (x - 0.28) ** 2, x]))
    assert place[0] == pytest.approx(0.28)
    assert height[0] == pytest.approx(2)
    assert edge.tolist() == [False, True]
    assert place[1] == 0.9


def test_scaled_curves_fall_on_one_another():
    grid, sizes = np.linspace(0.4, 0.6, 5), np.array([4.0, 16.0])
    x, _ = collapse.scaled_curves(grid, sizes, np.ones((2, 5)), (0.5, 0.5, 0.0))
    np.testing.assert_allclose(x[1], 2 * x[0])


@pytest.mark.parametrize("target", [0.31, 0.5, 0.62, 0.69])
def test_a_parabola_is_read_off_between_the_points_of_any_grid(target):
    x = np.array([0.3, 0.37, 0.41, 0.55, 0.6, 0.7])
    curves = np.array([3 - 2 * (x - 0.5) ** 2, 1 + x])[None]
    found = bootstrap.at_curved(x, curves, np.full((1, 2), target))
    np.testing.assert_allclose(found[0], [3 - 2 * (target - 0.5) ** 2, 1 + target])
    assert np.isnan(bootstrap.at_curved(x, curves, np.full((1, 2), np.nan))).all()


def test_what_is_positive_stays_so_between_points():
    x = np.arange(5.0)
    spike = np.array([[1e-3, 1e-3, 5.0, 1e-3, 1e-3]])
    where = np.linspace(0, 4, 81)[:, None]
    assert bootstrap.at_curved(x, np.repeat(spike, 81, axis=0)[:, None], where).min() > 0


def test_few_replicates_widen_an_interval_by_students_t():
    values = np.concatenate([[0.0], np.random.default_rng(3).normal(size=4000)])
    narrow, wide = (bootstrap.interval(one) for one in (values, bootstrap.widened(values, 10)))
    expected = 2.262 / 1.96 * (10 / 9) ** 0.5  # t with 9 degrees of freedom
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(expected, rel=0.03)
    moved = bootstrap.widened(values, 10)
    assert (np.argsort(moved[1:], kind="stable") == np.argsort(values[1:], kind="stable")).all()
    with_unknown = np.where(np.arange(4001) % 7 == 3, np.nan, values)
    assert (np.isnan(bootstrap.widened(with_unknown, 10)) == np.isnan(with_unknown)).all()


def trends(curve, error=1.0, resamples=400):
    """The trend of a curve in standard errors, with resamples that are all as far off at every ratio."""
    off = np.random.default_rng(5).normal(0, error, (resamples, 1))
    return np.concatenate([curve[None], curve + (off - off.mean()) / off.std() * error])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("turned", [False, True])
def test_the_region_of_a_crossing_is_where_its_trend_is_not_told_from_nothing(sign, turned):
    x = np.linspace(0, 1, 101)
    curve = sign * np.interp(x, [0, 0.2, 0.9, 1], [0, 10, -4, 0])
    grid = (1 - x)[::-1] if turned else x
    told = binder.region(grid, trends(curve[::-1] if turned else curve))
    ends = [0.2 + (10 - 1.96) / 20, 0.2 + (10 + 1.96) / 20]
    ends = sorted(1 - end for end in ends) if turned else ends
    assert told.closed
    np.testing.assert_allclose([told.low, told.high], ends, atol=1e-3)


def test_a_region_is_open_where_the_trend_does_not_come_back():
    x = np.linspace(0, 1, 101)
    told = binder.region(x, trends(np.interp(x, [0, 0.2, 0.7, 1], [0, 10, 0, -1.9])))
    assert not told.closed
    assert told.low == pytest.approx(0.2 + (10 - 1.96) / 20, abs=1e-3)
    assert told.high == 1
    assert np.isnan(binder.region(x, trends(np.interp(x, [0, 0.2, 1], [0, 2.9, -2.9]))).low)


def test_what_a_cumulant_does_not_tell_is_said():
    shape = coverage.LATTICES["normal; 1/nu 1, sizes 8-64"]
    samples = shape.draw(np.random.default_rng(2))
    fit = fit_critical(shape.ratios, samples, shape.sizes, method="binder", resamples=100)
    assert fit.inverse_nu is None
    assert fit.ci[0] < 0.5 < fit.ci[1] == 0.8
    assert [one for one in fit.warnings if "1/nu is not told" in one]


def test_refits_of_a_collapse_leave_the_minimum_of_the_data_where_there_is_a_better_one():
    """With zeta/nu free and few sizes the quality has minima beside each other; refits from one stay in it."""
    shape = coverage.SHAPES["logistic, slopes vary; 1/nu 3/4, sizes 16-64, step .01"]
    samples = shape.draw(np.random.default_rng(4))
    data = bootstrap.resample(shape.ratios, samples, np.array(shape.sizes, dtype=float), 40, 0)
    problem = collapse.Collapse(data, None, False, (0.02, 0.98))
    mean, means = data.mean[0], data.mean[1:]
    starts = problem.starts(mean, np.abs(mean @ data.smoother[1].T))
    theta, _ = min((problem.minimise(one, mean) for one in starts), key=lambda pair: pair[1])
    alone, together = (np.array(problem.refits(theta, means, rounds)) for rounds in (0, 2))
    better = [
        problem.quality(a, m) - problem.quality(b, m) for a, b, m in zip(alone, together, means, strict=True)
    ]
    assert min(better) >= 0
    assert np.sum(np.array(better) > 1e-3) >= 4
    assert together[:, 1].std() > alone[:, 1].std()
