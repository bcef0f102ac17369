"""How TreeKV thins a cache out with age, beside random eviction and H2O: simulated, and in theory.

He, Yuan, Bai, Leng and Jiang (2025), arXiv 2501.04987: see README.md beside this file.
"""

import sys

import numpy as np

from routegraph import plot
from routegraph.sim.decoding.simulate import simulate_decoding
from routegraph.theory.decoding import steady_survival, tree_by_age

BUDGET, STEPS, SLOTS = 128, 4096, (4, 4)
SPREADS = (0.25, 1.0, 2.0)
POLICIES = ("random", "h2o", "treekv")
#: Without sinks and latest rows that are left alone: only the tree.
SETTINGS = {"n_sink": 0, "recent": 0.0}
COLOURS = {"random": "blue", "h2o": "green", "treekv": "red"}


def main():
    ages = np.array([0, 8, 32, 64, 128, 256, 384, 512, 640])
    theory = {"random": steady_survival(BUDGET, ages), "treekv": tree_by_age(BUDGET, ages)}
    found = {}
    for spread in SPREADS:
        found[spread] = simulate_decoding(
            POLICIES,
            n_prefill=BUDGET,
            steps=STEPS,
            budget=BUDGET,
            n_layers=SLOTS[0],
            n_heads=SLOTS[1],
            spread=spread,
            decay=0.0,
            settings=SETTINGS,
            replicates=8,
            seed=2501,
        )
    print(
        f"Survival by age, budget {BUDGET}, {SLOTS[0] * SLOTS[1]} slots, {STEPS} steps; below it one standard error"
    )
    print("policy  spread" + "".join(f"{age:>8}" for age in ages))
    for policy in POLICIES:
        for spread in SPREADS:
            mean, error = found[spread].estimate(policy, "survival", ages)
            print(f"{policy:8}{spread:6}" + "".join(f"{one:8.3f}" for one in mean))
            print(" " * 14 + "".join(f"{one:8.3f}" for one in error))
        if policy in theory:
            print(f"{policy:8}theory" + "".join(f"{one:8.3f}" for one in theory[policy]))
    print(f"Tokens that the slots hold together after {STEPS} steps, one standard error")
    for policy in POLICIES:
        told = []
        for spread in SPREADS:
            mean, error = found[spread].estimate(policy, "held", [STEPS])
            told.append(f"{mean[0]:.0f}({error[0]:.0f})")
        print(f"{policy:8}" + "  ".join(f"spread {s}: {t}" for s, t in zip(SPREADS, told, strict=True)))

    made, axes = plot.figure(1, 2)
    grid = np.arange(0, 5 * BUDGET + 1, 4)
    for ax, spread in zip(axes, (SPREADS[0], SPREADS[-1]), strict=True):
        for policy in POLICIES:
            mean, error = found[spread].estimate(policy, "survival", grid)
            plot.band(ax, grid / BUDGET, mean, error, color=plot.COLOURS[COLOURS[policy]], label=policy)
        ax.plot(grid / BUDGET, tree_by_age(BUDGET, grid), "k--", linewidth=1, label="treekv, theory")
        ax.plot(grid / BUDGET, steady_survival(BUDGET, grid), "k:", linewidth=1, label="random, theory")
        ax.set(
            yscale="log",
            ylim=(5e-3, 1.2),
            xlabel="age of a row (steps, in budgets)",
            title=f"spread {spread:g}",
        )
    axes[0].set_ylabel("fraction of slots that still have it")
    axes[0].legend()
    if len(sys.argv) > 1:
        plot.save(made, sys.argv[1])


if __name__ == "__main__":
    main()
