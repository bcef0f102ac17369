"""The quality of a data collapse, against a slow twin."""

import numpy as np
import pytest

from routegraph.kernels.collapse import collapse_quality


def naive_quality(x, y, error, judged):
    total, count = 0.0, 0
    for i in range(len(x)):
        for j in np.flatnonzero(judged[i]):
            points = []
            for k in set(range(len(x))) - {i}:
                if x[k][0] <= x[i][j] <= x[k][-1]:
                    p = min(max(int(np.searchsorted(x[k], x[i][j], side="left")) - 1, 0), len(x[k]) - 2)
                    points += [(x[k][q], y[k][q], error[k][q]) for q in (p, p + 1)]
            if not points:
                continue
            a, b, e = np.array(points).T
            design = np.vander(a - x[i][j], 2, increasing=True)
            covariance = np.linalg.inv(design.T @ (design / e[:, None] ** 2))
            master = covariance @ (design.T @ (b / e**2))
            total += (y[i][j] - master[0]) ** 2 / (error[i][j] ** 2 + covariance[0, 0])
            count += 1
    return total / count, count


def test_quality_equals_its_naive_twin():
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = np.sort(rng.random((4, 15)), axis=1)
        y, error = rng.random((4, 15)), 0.1 + rng.random((4, 15))
        judged = rng.random((4, 15)) < 0.8
        found, points = collapse_quality(x, y, error, judged)
        expected, count = naive_quality(x, y, error, judged)
        assert points == count
        assert found == pytest.approx(expected, rel=1e-9)


def test_quality_of_points_on_one_line_is_zero_and_of_noise_one():
    rng = np.random.default_rng(1)
    x = np.sort(rng.random((5, 400)), axis=1)
    everything = np.ones_like(x, dtype=bool)
    assert collapse_quality(x, 2 * x + 1, np.full_like(x, 0.1), everything)[0] < 1e-20
    noisy = 2 * x + 1 + rng.normal(0, 0.1, x.shape)
    assert collapse_quality(x, noisy, np.full_like(x, 0.1), everything)[0] == pytest.approx(1, abs=0.1)
