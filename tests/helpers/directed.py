"""1+1 directed percolation as a read graph, carried through `routegraph.kernels.reach.layer_pass`.

Bond: head 0 of position i reads i, head 1 reads i - 1, so that every edge has a slot of its own. Site: one head
reads both, so that all readers of a site lose it together. Ranks are independent numbers uniform on 1..RANKS
(no permutations): at level k a slot is there with probability p = 1 - k / RANKS. One pass gives, for every depth
and position, the highest level at which it is still reached: all p at once.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from routegraph.kernels.reach import layer_pass

RANKS = 2**30
TRUTH = {"bond": 0.644700185, "site": 0.705485}  # Hinrichsen 2000; Jensen 1999
DELTA = 0.159464


def read_graph(width, kind):
    """CSR of one layer: indptr, slots, number of heads."""
    position = np.arange(width)
    left = np.maximum(position - 1, 0)  # position 0 lies outside all that is read off
    if kind == "bond":
        slots = np.stack([position * 2, left * 2 + 1], axis=1)
        return np.arange(width + 1) * 2, slots.ravel(), 2
    return np.arange(width + 1) * 2, np.stack([position, left], axis=1).ravel(), 1


def carry(value, kind, layers, rng):
    """Carry the values of the top layer down, with fresh ranks in each layer."""
    value, below = value.copy(), np.empty_like(value)
    indptr, slots, heads = read_graph(len(value), kind)
    best = np.zeros(len(value) * heads, np.int32)
    for _ in range(layers):
        drop = rng.integers(1, RANKS, size=(heads, len(value)), dtype=np.int32, endpoint=True)
        layer_pass(value, below, best, indptr, slots, drop, True, False)
        value, below = below, value
    return value


def needed(value):
    """Lowest p at which a node of this value is reached (a value exceeds the levels it is reached at)."""
    return 1 - (value - 1) / RANKS


def doublings(depth):
    """Layers between the depths 1, 2, 4, ..., depth."""
    return [1, *(2**k for k in range(depth.bit_length() - 1))]


def share(thresholds, p):
    """Share of `thresholds` at or below each p."""
    return np.searchsorted(np.sort(thresholds), p, side="right") / len(thresholds)


def density(kind, depth, seed, p, width=2**15):
    """Share of positions reached when all are reached at the top, float64[log2(depth) + 1, len(p)].

    By time reversal the chance that a single seed survives: exactly for bonds, but for a factor for sites.
    """
    rng = np.random.default_rng(seed)
    value = np.full(width + depth, RANKS + 1, np.int32)
    rows = []
    for layers in doublings(depth):
        value = carry(value, kind, layers, rng)
        rows.append(share(needed(value[1 : width + 1]), p))  # those further right feel the edge
    return np.array(rows)


def seeds(kind, depth, seed, p, blocks=64):
    """Share of `blocks` single seeds, side by side, that survive: float64[log2(depth) + 1, len(p)].

    Each has as many positions as it can reach, twice as many after each doubling of the depth.
    """
    rng = np.random.default_rng(seed)
    value, rows, at = np.full((blocks, 1), RANKS + 1, np.int32), [], 0
    for layers in doublings(depth):
        at += layers
        grown = np.zeros((blocks, at + 2), np.int32)  # the first stays empty: no run touches the next
        grown[:, -value.shape[1] :] = value
        value = carry(grown.ravel(), kind, layers, rng).reshape(blocks, -1)
        rows.append(share(needed(value.max(axis=1)), p))
    return np.array(rows)


def repeat(function, kind, depth, runs, p, seed):
    """Independent repetitions over threads, float64[runs, log2(depth) + 1, len(p)]."""
    spawned = np.random.SeedSequence(seed).spawn(runs)
    with ThreadPoolExecutor(2) as pool:
        return np.array(list(pool.map(lambda s: function(kind, depth, s, p), spawned)))


def critical_point(curve, p, first, step):
    """Return (p_c, delta): where ln P falls with ln t by the same slope over all depths.

    The slopes over three spans, each a factor 2**step of depth from 2**first on, are freed of the first
    correction to scaling, 1/t, in pairs; p_c is where both pairs agree, delta is what they agree on.

    curve : float64[n_depths, len(p)].
    """
    log = np.log(curve)
    rows = [first + step * k for k in range(4)]
    slopes = [-(log[b] - log[a]) / ((b - a) * np.log(2)) for a, b in itertools.pairwise(rows)]
    early, late = ((2**step * b - a) / (2**step - 1) for a, b in itertools.pairwise(slopes))
    centre = p.mean()
    apart = np.polynomial.Polynomial.fit(p - centre, late - early, 3)  # falls with p
    roots = [r.real + centre for r in apart.roots() if abs(r.imag) < 1e-9 and p[0] < r.real + centre < p[-1]]
    if len(roots) != 1:
        return np.nan, np.nan
    return roots[0], float(np.polynomial.Polynomial.fit(p - centre, late, 3)(roots[0] - centre))


def with_errors(curves, p, first, step, resamples=200, seed=0):
    """Return ((p_c, delta), their standard errors) by bootstrap over the first axis of `curves`."""
    rng = np.random.default_rng(seed)
    n = len(curves)
    found = [
        critical_point(curves[rng.integers(0, n, n)].mean(axis=0), p, first, step) for _ in range(resamples)
    ]
    return critical_point(curves.mean(axis=0), p, first, step), np.nanstd(found, axis=0)
