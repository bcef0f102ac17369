"""Crossing probability of the square lattice (sites) at all occupations from single sweeps, and p_c by collapse.

Newman and Ziff (2001), Sec. II and the estimate of p_c by crossing curves: see README.md beside this file.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.stats import binom

from routegraph import plot
from routegraph.critical.fit import fit_critical
from routegraph.kernels.union_find import sites_to_cross

SIZES = {32: 2000, 64: 2000, 128: 1500, 256: 800}
PUBLISHED = 0.59274621  # Newman and Ziff (2000); Jacobsen (2015): .59274605
P = np.linspace(0.55, 0.635, 86)


def square(length):
    """Neighbours (CSR) of an open L x L square, and its left (1) and right (2) sides."""
    node = np.arange(length**2).reshape(length, length)
    pairs = [(node[:, :-1], node[:, 1:]), (node[:-1], node[1:])]
    ends = np.concatenate([[a.ravel(), b.ravel()] for a, b in pairs], axis=1)
    both = np.concatenate([ends, ends[::-1]], axis=1)
    order = np.argsort(both[0], kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(both[0]))])
    sides = np.zeros((length, length), np.uint8)
    sides[:, 0], sides[:, -1] = 1, 2
    return indptr, both[1, order], sides.ravel()


def crossing(length, runs):
    """Crossing probability at each p, run by run, float64[runs, len(P)]."""
    graph = square(length)
    keys = np.random.SeedSequence([2001, length]).generate_state(runs, np.uint64)
    with ThreadPoolExecutor(2) as pool:
        needed = np.array(list(pool.map(lambda key: sites_to_cross(*graph, key), keys)))
    return binom.sf(needed[:, None] - 1, length**2, P)


def main():
    rows = min(SIZES.values())
    samples = []
    for length, runs in SIZES.items():
        start = time.perf_counter()
        samples.append(crossing(length, runs)[:rows])
        print(f"L = {length}: {runs} sweeps, {time.perf_counter() - start:.1f} s")
    fits = {
        "sizes 32..256": fit_critical(
            P, samples, list(SIZES), method="collapse", scale="L", zeta_over_nu=0.0
        ),
        "with correction": fit_critical(
            P, samples, list(SIZES), method="collapse", scale="L", zeta_over_nu=0.0, correction=True
        ),
        "half point, L = 256": fit_critical(P, samples, list(SIZES), method="half", scale="L"),
    }
    for name, fit in fits.items():
        exponent = (
            ""
            if fit.inverse_nu is None
            else f", 1/nu = {fit.inverse_nu:.3f} [{fit.inverse_nu_ci[0]:.3f}, {fit.inverse_nu_ci[1]:.3f}]"
        )
        print(f"{name}: p_c = {fit.alpha_c:.5f} [{fit.ci[0]:.5f}, {fit.ci[1]:.5f}]{exponent}")
    print(f"published p_c = {PUBLISHED}, 1/nu = 3/4")
    made, axes = plot.figure(1, 2, width=5.2)
    fit = fits["sizes 32..256"]
    fit.plot(axes)
    axes[0].axvline(PUBLISHED, color=plot.COLOURS["red"], linewidth=1, label="published")
    axes[0].set(xlabel="site occupation p", ylabel="crossing probability")
    axes[0].legend()
    axes[1].set(xlabel="(p - p_c) L^(1/nu)")
    if len(sys.argv) > 1:
        plot.save(made, sys.argv[1])


if __name__ == "__main__":
    main()
