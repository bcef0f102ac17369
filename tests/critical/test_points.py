import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.critical.points import crossing, crossings, half_point, susceptibility


@given(at=st.floats(0.05, 0.95), slope=st.floats(0.2, 50), falling=st.booleans())
def test_crossing_of_a_line_is_exact(at, slope, falling):
    x = np.linspace(0, 1, 7)
    y = 0.5 + (x - at) * slope * (-1 if falling else 1)
    assert crossing(x, y) == pytest.approx(at)


def test_crossing_is_nan_where_the_curve_never_gets_there():
    found = crossing([0, 1, 2], [[0, 0.1, 0.2], [0, 0.4, 0.6]])
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(1.5)


def crossings_by_hand(x, curve, target, noise):
    """Walk along one curve: the side it was last clearly on, and the first step between it and the next."""
    found, last = [], None
    for i, value in enumerate(curve - target):
        if abs(value) <= noise:
            continue
        if last is not None and (value > 0) != (curve[last] > target):
            found.append((last, i))
        last = i
    steps = [
        k
        for k in range(len(x) - 1)
        if (curve[k] - target) * (curve[k + 1] - target) <= 0 and curve[k] != curve[k + 1]
    ]
    if not steps:
        return 0, np.nan, np.nan
    first, final = (found[0], found[-1]) if found else ((0, len(x)), (0, len(x)))
    chosen = (
        next(k for k in steps if first[0] <= k < first[1]),
        [k for k in steps if final[0] <= k < final[1]][-1],
    )
    places = [x[k] + (x[k + 1] - x[k]) * (target - curve[k]) / (curve[k + 1] - curve[k]) for k in chosen]
    return max(len(found), 1), *places


@given(
    values=st.lists(st.integers(-4, 4), min_size=2, max_size=14),
    noise=st.sampled_from([0.0, 0.5, 1.5]),
)
def test_crossings_are_what_a_walk_along_the_curve_finds(values, noise):
    x, curve = np.cumsum(np.arange(1, len(values) + 1.0)), np.array(values, dtype=float)
    number, first, last = crossings(x, curve, 0.5, noise)
    expected = crossings_by_hand(x, curve, 0.5, noise)
    assert number == expected[0]
    assert [first, last] == pytest.approx(expected[1:], nan_ok=True)
    if number == 0:
        assert np.isnan(crossing(x, curve))
    elif noise == 0:
        assert first == pytest.approx(float(crossing(x, curve)))


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
