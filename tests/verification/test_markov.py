"""The reachability kernel against the exact Markov chain: slots are not edges."""

import numpy as np
import pytest

from routegraph import plot
from routegraph.kernels.reach import layer_pass
from routegraph.theory import markov

pytestmark = pytest.mark.verify

N, HEADS, KEPT, LAYERS = 12, 3, 0.4, 5
RANKS = 2**20
#: Mean reached, from THEORY: edge dilution exact, slot dilution as far as it was known.
KNOWN = {
    ("edges", False): 1.526644,
    ("edges", True): 10.253611,
    ("slots", False): 1.358,
    ("slots", True): 9.842,
}


def reached_values(dilute, residual, replicates, rng):
    """Values at the bottom, int[replicates, N], of graphs side by side; each starts from its first token."""
    n = replicates * N
    value = np.zeros(n, np.int32)
    value[::N] = RANKS + 1
    below = np.empty_like(value)
    heads = HEADS if dilute == "slots" else N * HEADS
    best = np.zeros(n * heads, np.int32)
    query = np.arange(n)
    # An edge of its own slot: as many heads as edges can meet at a key, one for each (query, draw).
    of_query = np.zeros(n, int) if dilute == "slots" else query % N * HEADS
    for _ in range(LAYERS):
        key = (query // N * N)[:, None] + rng.integers(0, N, size=(n, HEADS))
        slots = key * heads + of_query[:, None] + np.arange(HEADS)
        drop = rng.integers(1, RANKS, size=(heads, n), dtype=np.int32, endpoint=True)
        layer_pass(value, below, best, np.arange(n + 1) * HEADS, slots.ravel(), drop, True, residual)
        value, below = below, value
    return value.reshape(replicates, N)


@pytest.mark.parametrize("dilute", ["edges", "slots"])
def test_markov_chain(record, dilute):
    rng = np.random.default_rng(7)
    runs = 40_000
    grid = np.linspace(0.05, 0.95, 19)
    figure, axes = plot.figure()
    for residual in (False, True):
        # Four batches: an edge-diluted graph has 36 heads.
        value = np.concatenate([reached_values(dilute, residual, runs // 4, rng) for _ in range(4)])
        level = round((1 - KEPT) * RANKS)
        counts = (value > level).sum(axis=1)
        law = markov.reached(N, HEADS, 1, KEPT, LAYERS, dilute, residual)
        truth, error = law @ np.arange(N + 1), counts.std() / np.sqrt(runs)
        assert truth == pytest.approx(KNOWN[dilute, residual], abs=1e-6 if dilute == "edges" else 0.006)
        name = f"mean reached, {dilute} diluted, {'with' if residual else 'without'} residual"
        record.value(name, counts.mean(), error, truth, runs, "exact Markov chain")
        assert abs(counts.mean() - truth) < 3 * error
        observed = np.bincount(counts, minlength=N + 1)
        likely = law * runs > 5
        expected = law[likely] * runs
        chi2 = ((observed[likely] - expected) ** 2 / expected).sum()
        assert chi2 < likely.sum() + 4 * np.sqrt(2 * likely.sum())
        label = "with residual" if residual else "without"
        mean = [(value > (1 - kept) * RANKS).sum() / runs for kept in grid]
        exact = [
            markov.reached(N, HEADS, 1, kept, LAYERS, dilute, residual) @ np.arange(N + 1) for kept in grid
        ]
        axes.plot(grid, mean, ".", label=label)
        axes.plot(grid, exact, color="black", linewidth=0.8)
    axes.set(
        xlabel="kept share",
        ylabel="tokens reached of 12",
        title=f"Non-causal, 3 reads, 5 layers, {dilute} diluted",
    )
    axes.legend()
    record.figure(figure)
