"""Cavity and simulation over the whole ratio range, n = 4096, 12 layers, 4 heads, degree 2: the gap as a curve."""

from functools import partial

import numpy as np
import pytest

from routegraph import plot, simulate
from routegraph.theory import loads
from routegraph.theory.fluctuations import cavity_fluctuating
from routegraph.theory.reach import cavity, cavity_decode

pytestmark = pytest.mark.verify

N, SHAPE = 4096, (12, 4, 2)
RATIOS = np.concatenate([np.arange(0, 0.9, 0.1), [0.75, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98]])
RATIOS.sort()
#: Orders of popularity over which theory is averaged; the simulation draws a new one for each graph.
ORDERS = 4


def sinks(seed):
    """Load of the ensemble `sink` for one order of popularity, and bins that tell the popular apart."""
    weights = np.append(np.random.default_rng(seed).permutation(1 / np.arange(1.0, N + 1)), 1 / N)
    load = partial(loads.sink_load, p_sink=0.4, n_sink=4, p_recent=0.3, recent=32, weights=weights)
    return load, {"growth": 0.3, "kinds": np.round(np.log2(weights[:N]) / 2)}


#: ensemble settings; loads with the bins they need; replicates; largest gaps allowed: columns, decode
CASES = {
    "uniform": ({}, [(loads.uniform_load, {})], 2000, 0.002, 0.005),
    "window": ({"window": 512}, [(partial(loads.window_load, window=512), {"widest": 24})], 512, 0.02, 0.01),
    "powerlaw": ({"exponent": 0.5}, [(partial(loads.powerlaw_load, exponent=0.5), {})], 256, 0.015, 0.01),
    "sink": (
        {"n_sink": 4, "to_sink": 0.4, "recent": 32, "to_recent": 0.3, "exponent": 1.0},
        [sinks(seed) for seed in range(ORDERS)],
        256,
        0.08,
        0.02,
    ),
}


def simulated(ensemble, settings, shape, replicates, prune, residual=True):
    n_layers, n_heads, degree = shape
    run = simulate(
        N,
        RATIOS,
        n_layers=n_layers,
        n_heads=n_heads,
        degree=degree,
        ensemble=ensemble,
        settings=settings,
        replicates=replicates,
        seed=31,
        prune=prune,
        residual=residual,
    )
    mean, error = run.estimate("reach_fraction", RATIOS)
    return mean, error, run.level_of.levels(RATIOS) / N


def draw(axes, mean, error, curves, title):
    for label, curve in curves.items():
        plot.band(axes, RATIOS, curve - mean, error, label=label, marker=".")
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xlabel="compression ratio", ylabel="theory - simulation", title=title)
    axes.legend()


@pytest.mark.parametrize("ensemble", list(CASES))
def test_reach_gap(record, ensemble):
    settings, kinds, replicates, *allowed = CASES[ensemble]
    figure, axes = plot.figure(1, 3, width=4.5)
    mean_field = {"columns": cavity, "decode": cavity_decode}
    for i, (prune, most) in enumerate(zip(mean_field, allowed, strict=True)):
        mean, error, gone = simulated(ensemble, settings, SHAPE, replicates, prune)
        plain = np.mean([mean_field[prune](N, *SHAPE, gone, load=load) for load, _ in kinds], axis=(0, 2))
        better = np.mean(
            [cavity_fluctuating(N, *SHAPE, gone, load=load, prune=prune, **bins) for load, bins in kinds],
            axis=(0, 2),
        )
        draw(axes[i + 1], mean, error, {"cavity": plain, "with fluctuations": better}, prune)
        plot.band(axes[0], RATIOS, mean, error, label=prune, linestyle="", marker="o", markersize=3)
        axes[0].plot(RATIOS, better, color="black", linewidth=0.8)
        for name, curve in (("cavity", plain), ("with fluctuations", better)):
            worst = int(np.argmax(np.abs(curve - mean)))
            where = f"{prune}, {name}: largest gap, at ratio {RATIOS[worst]:.2f}"
            record.value(
                where, curve[worst] - mean[worst], error[worst], 0, replicates, "theory - simulation"
            )
        assert np.all(np.abs(better - mean) < most + 3 * error)
        assert np.abs(better - mean).sum() < 0.65 * np.abs(plain - mean).sum()
    axes[0].set(
        xlabel="compression ratio", ylabel="reached share", title=f"{ensemble} (lines: with fluctuations)"
    )
    axes[0].legend()
    record.figure(figure)


def test_reach_gap_of_the_default(record):
    """The command line's default: 32 layers, 8 heads, degree 1; and the same without residual edges."""
    figure, axes = plot.figure(1, 2, width=5)
    for axis, shape, residual, most in (
        (axes[0], (32, 8, 1), True, 0.002),
        (axes[1], SHAPE, False, 0.013),
    ):
        mean, error, gone = simulated("uniform", {}, shape, 1000, "columns", residual)
        plain = cavity(N, *shape, gone, residual).mean(axis=1)
        better = cavity_fluctuating(N, *shape, gone, residual).mean(axis=1)
        name = "{} layers, {} heads, degree {}".format(*shape) + ("" if residual else ", no residual")
        draw(axis, mean, error, {"cavity": plain, "with fluctuations": better}, name)
        for label, curve in (("cavity", plain), ("with fluctuations", better)):
            worst = int(np.argmax(np.abs(curve - mean)))
            where = f"{name}, {label}: largest gap, at ratio {RATIOS[worst]:.2f}"
            record.value(where, curve[worst] - mean[worst], error[worst], 0, 1000, "theory - simulation")
        assert np.all(np.abs(better - mean) < most + 3 * error)
    record.figure(figure)
