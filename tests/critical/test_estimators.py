"""What the fits are put together from: estimators, and scaled curves."""

import numpy as np
import pytest

from routegraph.critical import collapse, estimators, slopes
from routegraph.stats import bootstrap


def test_moment_ratios_are_those_of_the_samples():
    samples = np.random.default_rng(0).normal(size=(2, 4000, 3)) + np.array([0, 1, 5.0])
    data = bootstrap.resample(np.arange(3.0), samples, np.array([1.0, 2.0]), 20, 0)
    second, fourth = (samples**2).mean(axis=1), (samples**4).mean(axis=1)
    np.testing.assert_allclose(estimators.binder(data)[0], second**2 / fourth)
    np.testing.assert_allclose(estimators.second_moment(data)[0], samples.mean(axis=1) ** 2 / second)
    assert estimators.binder(data)[0, :, 0] == pytest.approx(1 / 3, rel=0.1)  # a Gaussian: U = 0
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
