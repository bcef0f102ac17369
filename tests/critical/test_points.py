import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.critical.points import crossing, half_point, susceptibility


@given(at=st.floats(0.05, 0.95), slope=st.floats(0.2, 50), falling=st.booleans())
def test_crossing_of_a_line_is_exact(at, slope, falling):
    x = np.linspace(0, 1, 7)
    y = 0.5 + (x - at) * slope * (-1 if falling else 1)
    assert crossing(x, y) == pytest.approx(at)


def test_crossing_is_nan_where_the_curve_never_gets_there():
    found = crossing([0, 1, 2], [[0, 0.1, 0.2], [0, 0.4, 0.6]])
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(1.5)


def test_half_point_interval_covers_the_truth_at_its_rate():
    grid, covered = np.linspace(0, 1, 101), 0
    for seed in range(200):
        shifts = np.random.default_rng(seed).normal(0.6, 0.08, size=30)
        found = half_point(grid, 1 / (1 + np.exp(-(grid - shifts[:, None]) / 0.05)), resamples=300, seed=seed)
        covered += found.low <= 0.6 <= found.high
    assert 178 <= covered <= 199  # 95 % of 200 is 190; a percentile bootstrap of 30 rows runs a little short


def test_half_point_of_one_curve_has_no_interval():
    found = half_point([0, 1], [[0.0, 1.0]])
    assert found.value == pytest.approx(0.5)
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_resamples_that_never_cross_open_the_interval():
    curves = np.array([[0.0, 0.2]] * 5 + [[0.0, 1.0]] * 6)
    found = half_point([0, 1], curves)
    assert np.isnan(found.high)
    assert not np.isnan(found.low)


def test_susceptibility_of_a_known_curve():
    rng, grid, replicates = np.random.default_rng(0), np.linspace(0, 1, 51), 400
    noise = 0.05 * rng.standard_normal((replicates, 1))
    found = susceptibility(grid, 1 - grid**2 + noise, n=100)
    assert found.derivative[1:-1] == pytest.approx(2 * grid[1:-1])
    assert found.derivative_error == pytest.approx(0, abs=1e-12)
    assert np.all(np.abs(found.fluctuation - 0.25) < 3.5 * found.fluctuation_error)


def test_susceptibility_jackknife_equals_leaving_out():
    samples = np.random.default_rng(1).random((7, 3))
    found = susceptibility([0.1, 0.2, 0.4], samples, n=1)
    left_out = np.array([np.delete(samples, k, axis=0).var(axis=0, ddof=1) for k in range(7)])
    expected = np.sqrt(6 / 7 * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    assert found.fluctuation_error == pytest.approx(expected)
    with pytest.raises(ValueError, match="2 ratios and 2 replicates are needed, got 1 and 7"):
        susceptibility([0.1], samples[:, :1], n=1)
