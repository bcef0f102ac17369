import numpy as np
import pytest

from routegraph.kernels.reach import layer_pass
from routegraph.theory import growth, markov


def half_points(n, n_layers, reads, replicates, seed=0):
    """Half point and 25-75 % width of each run's reach; non-causal, random eviction, residual edges."""
    rng = np.random.default_rng(seed)
    indptr = np.arange(n + 2) * reads
    found = []
    for _ in range(replicates):
        value = np.zeros(n + 1, np.int32)
        value[-1] = n + 1
        below, best = np.zeros_like(value), np.zeros((n + 1) * reads, np.int32)
        for _ in range(n_layers):
            slots = rng.integers(0, n, size=(n + 1, reads)) * reads + np.arange(reads)  # degree 1
            drop = rng.permuted(np.tile(np.arange(1, n + 1, dtype=np.int32), (reads, 1)), axis=1)
            layer_pass(value, below, best, indptr, slots.ravel(), drop, True, True)
            value, below = below, value
        reached = 1 - np.cumsum(np.bincount(value[:n], minlength=n + 1))[: n + 1] / n  # at level k
        level = np.interp([-0.75, -0.5, -0.25], -reached, np.arange(n + 1)) / n
        found.append((level[1], level[2] - level[0]))
    return np.array(found).T


@pytest.mark.parametrize(
    ("n_layers", "law", "below"), [(8, 0.801, 0.012), (16, 0.924, 0.01), (32, 0.966, 0.007)]
)
def test_crossover_of_theory_md(n_layers, law, below):
    assert growth.crossover(2048, n_layers, 8) == pytest.approx(law, abs=6e-4)
    half, width = half_points(2048, n_layers, 8, replicates=32)
    error = half.std(ddof=1) / np.sqrt(len(half))
    # The law is that of the mean population: the first layers' fluctuations put the runs a little lower.
    assert law - below - 3 * error < half.mean() < law + 3 * error
    low, high = growth.crossover_width(2048, n_layers, 8)
    assert 0.85 * low < np.median(width) < 1.25 * high


def test_crossover_moves_with_layers_over_log_n():
    # Twice the layers and n squared: the same point.
    assert growth.crossover(64, 6, 8) == pytest.approx(growth.crossover(4096, 12, 8))
    assert growth.crossover(10**6, 1, 8) == 0


def test_crossover_of_a_policy_that_keeps_the_heavy_rows():
    weights = 1 / np.arange(1.0, 2049.0)
    mass = lambda ratio: float(growth.lorenz(weights, ratio))  # noqa: E731
    found = growth.crossover(2048, 16, 8, mass)
    assert 8 * mass(found) == pytest.approx(2048 ** (1 / 16) - 1, rel=1e-6)
    assert found > growth.crossover(2048, 16, 8)
    even = growth.crossover(2048, 16, 8, lambda ratio: float(growth.lorenz(np.ones(2048), ratio)))
    assert even == pytest.approx(growth.crossover(2048, 16, 8))
    assert growth.crossover(2048, 2, 8, mass) == 0


def test_lorenz():
    weights = [4.0, 1.0, 3.0, 2.0]
    assert growth.lorenz(weights, [0.0, 0.25, 0.5, 0.75, 1.0]) == pytest.approx([1, 0.9, 0.7, 0.4, 0])
    assert growth.lorenz(np.ones(7), 0.3) == pytest.approx(0.7)
    with pytest.raises(ValueError, match="weights must be a list of numbers that are not negative"):
        growth.lorenz([1.0, -1.0], 0.5)


def test_local_threshold_parts_dying_from_lasting():
    """Without residual the mean of the exact chain falls below reads (1 - ratio) = 1 and lasts above."""
    assert growth.local_threshold(3) == pytest.approx(2 / 3)
    assert growth.local_threshold(0.5) == 0
    n = 24
    lasting = [
        markov.reached(n, 1, 3, kept, 30, "edges", residual=False) @ np.arange(n + 1) / n
        for kept in (1 / 3 - 0.08, 1 / 3 + 0.17)
    ]
    assert lasting[0] < 1e-3
    assert lasting[1] > 0.15
