"""1+1 directed percolation through the reachability kernel: Hinrichsen (2000), Jensen (1999)."""

import numpy as np
import pytest

from routegraph import plot
from tests.helpers import directed

pytestmark = pytest.mark.verify

#: Depths 8, 32, 128, 512.
FIRST, STEP, DEPTH = 3, 2, 512


@pytest.mark.parametrize("kind", ["bond", "site"])
def test_directed_percolation(record, kind):
    truth = directed.TRUTH[kind]
    # The grid is laid around a centre that is no function of the truth beyond two digits.
    p = np.linspace(-0.02, 0.02, 81) + round(truth, 2)
    curves = directed.repeat(directed.density, kind, DEPTH, 96, p, seed=["bond", "site"].index(kind))
    (pc, delta), (pc_error, delta_error) = directed.with_errors(curves, p, FIRST, STEP)
    record.value("p_c", pc, pc_error, truth, len(curves), "Hinrichsen 2000; Jensen 1999")
    record.value("delta", delta, delta_error, directed.DELTA, len(curves), "Jensen 1999")

    depths = 2.0 ** np.arange(DEPTH.bit_length())
    figure, axes = plot.figure(1, 2, width=5)
    mean = curves.mean(axis=0)
    for column in range(0, len(p), 20):
        axes[0].loglog(depths, mean[:, column], label=f"p = {p[column]:.4f}")
        axes[1].plot(depths[1:], -np.diff(np.log2(mean[:, column])))
    axes[1].axhline(directed.DELTA, color="grey", linewidth=0.8)
    axes[0].set(xlabel="depth", ylabel="reached share", title=f"Directed {kind} percolation, 1+1")
    axes[1].set(
        xlabel="depth", xscale="log", ylabel="local slope", title=f"p_c = {pc:.5f}, delta = {delta:.4f}"
    )
    axes[0].legend()
    record.figure(figure)

    assert abs(pc - truth) < 0.002
    assert abs(pc - truth) < 3 * pc_error
    assert abs(delta - directed.DELTA) < 0.01
    assert abs(delta - directed.DELTA) < 3 * delta_error
    assert pc_error < 0.0005


def test_single_seed_survives_as_the_density_decays(record):
    """Bonds: P(depth, p) of one seed equals the share reached from a full top layer, at every p and depth."""
    p = np.linspace(0.63, 0.66, 31)
    density = directed.repeat(directed.density, "bond", 128, 24, p, seed=5)
    seeds = directed.repeat(directed.seeds, "bond", 128, 256, p, seed=6)
    gap = seeds.mean(axis=0) - density.mean(axis=0)
    error = np.hypot(seeds.std(axis=0) / np.sqrt(len(seeds)), density.std(axis=0) / np.sqrt(len(density)))
    for row in (3, 5, 7):
        at = 15
        runs = len(seeds) * 64
        found, truth = seeds.mean(axis=0)[row, at], density.mean(axis=0)[row, at]
        record.value(
            f"survival at depth {2**row}, p = .645", found, error[row, at], truth, runs, "time reversal"
        )
    assert np.abs(gap / error)[1:].max() < 4  # the worst of 217 correlated figures
    (pc, _), (pc_error, _) = directed.with_errors(seeds, p, 1, 2)
    record.value("p_c from single seeds, depth 128", pc, pc_error, directed.TRUTH["bond"], len(seeds) * 64)
    assert abs(pc - directed.TRUTH["bond"]) < 3 * pc_error
    assert pc_error < 0.002
