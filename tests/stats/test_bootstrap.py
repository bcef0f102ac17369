import numpy as np
import pytest

from routegraph.stats import bootstrap


def test_local_quadratic_is_exact_for_parabolas():
    x = np.sort(np.random.default_rng(0).random(40))
    smooth, slope = bootstrap.local_quadratic(x)
    y = 3 * x**2 - x + 2
    np.testing.assert_allclose(smooth @ y, y, atol=1e-8)
    np.testing.assert_allclose(slope @ y, 6 * x - 1, atol=1e-6)


def test_power_law_and_line_are_exact_without_noise():
    sizes = np.array([2.0, 4.0, 8.0])
    assert bootstrap.power_law(sizes, np.array([3 * sizes**1.3])) == pytest.approx([1.3])
    intercept, slope = bootstrap.line(sizes, np.array([1 + 2 * sizes]))
    assert (intercept[0], slope[0]) == pytest.approx((1, 2))
