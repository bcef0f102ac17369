"""Square lattice through the union-find kernel, by the method of Newman and Ziff (2001)."""

import numpy as np
import pytest
from scipy.stats import binom

from routegraph import plot
from routegraph.kernels import union_find
from tests.helpers.lattice import keys, rectangle

pytestmark = pytest.mark.verify

#: Jacobsen, J. Phys. A 48, 454003 (2015).
SITE_PC = 0.59274605


def csr(edges, n):
    """Neighbours of each node, both directions."""
    both = np.concatenate([edges, edges[:, ::-1]])
    order = np.argsort(both[:, 0], kind="stable")
    return np.concatenate([[0], np.cumsum(np.bincount(both[:, 0], minlength=n))]), both[order, 1]


def crossing_probability(needed, total, p):
    """Chance, run by run, that `needed` of `total` are there at occupation p, float[len(p), runs]."""
    return binom.sf(np.asarray(needed) - 1, total, np.asarray(p)[:, None])


def test_square_bond_crossing(record):
    """L x (L + 1) is its own dual: a crossing has probability exactly 1/2 at p = 1/2, at every L."""
    figure, axes = plot.figure()
    p = np.linspace(0.4, 0.6, 81)
    for length, runs in [(4, 20000), (8, 20000), (16, 20000), (32, 16000), (64, 10000), (128, 4000)]:
        edges, sides = rectangle(length, length + 1)
        needed = [union_find.bonds_to_cross(edges, sides, key) for key in keys(length, runs)]
        at_half = crossing_probability(needed, len(edges), [0.5])[0]
        value, error = at_half.mean(), at_half.std(ddof=1) / np.sqrt(runs)
        record.value(f"crossing probability, L = {length}", value, error, 0.5, runs, "duality")
        axes.plot(p, crossing_probability(needed, len(edges), p).mean(axis=1), label=f"L = {length}")
        assert abs(value - 0.5) < 3 * error
        assert error < 0.008
    axes.axhline(0.5, color="grey", linewidth=0.8)
    axes.axvline(0.5, color="grey", linewidth=0.8)
    axes.set(
        xlabel="bond occupation p", ylabel="crossing probability", title="Square lattice, bonds, L x (L + 1)"
    )
    axes.legend()
    record.figure(figure)


def test_square_site_threshold(record):
    """Where an L x L square is crossed with probability 1/2; that point moves as L**-1.75 (Ziff 1992)."""
    figure, axes = plot.figure()
    rng = np.random.default_rng(0)
    for length, runs in [(32, 8000), (64, 8000), (128, 5000), (256, 3000)]:
        edges, sides = rectangle(length, length)
        indptr, neighbours = csr(edges, length**2)
        needed = np.array(
            [union_find.sites_to_cross(indptr, neighbours, sides, key) for key in keys(100 + length, runs)]
        )
        p = np.linspace(0.57, 0.62, 101)
        curves = crossing_probability(needed, length**2, p)

        def half(weights, curves=curves, p=p):
            return np.interp(0.5, curves @ weights, p)

        value = half(np.full(runs, 1 / runs))
        error = np.std([half(rng.multinomial(runs, np.full(runs, 1 / runs)) / runs) for _ in range(200)])
        record.value(f"p_c at L = {length}", value, error, SITE_PC, runs, "Jacobsen 2015")
        axes.plot(p, curves.mean(axis=1), label=f"L = {length}")
    assert abs(value - SITE_PC) < 3 * error
    assert error < 0.0003
    axes.axvline(SITE_PC, color="grey", linewidth=0.8)
    axes.axhline(0.5, color="grey", linewidth=0.8)
    axes.set(xlabel="site occupation p", ylabel="crossing probability", title="Square lattice, sites, L x L")
    axes.legend()
    record.figure(figure)
