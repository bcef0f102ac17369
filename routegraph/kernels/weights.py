"""Kernels over weighted read edges at one level of eviction."""

from __future__ import annotations

import numba as nb
import numpy as np

from routegraph.kernels.reach import fold

#: Bits of the float32 infinity, and all but the sign of a float32 (there may be a zero with one).
_INFINITY, _NO_SIGN = np.int32(0x7F800000), np.int32(0x7FFFFFFF)


@nb.njit(cache=True, nogil=True, inline="always")
def is_alive(drop, level, layer, head, key, query, columns):  # type: ignore[no-untyped-def]
    """Return whether an edge of a layer (counted from 0) survives; drop is int[n_layers, n_heads, n_context]."""
    n_context = drop.shape[2]
    if key >= n_context or (not columns and query < n_context):
        return True
    return drop[layer, head, key] > level


@nb.njit(cache=True, nogil=True)
def scatter_widths(value, best, indptr, slots, widths, start, stop):  # type: ignore[no-untyped-def]
    """Raise best[slot] to the value of every query in start..stop-1 that reads it, capped by the edge's width."""
    value, indptr = value[start:stop], indptr[start : stop + 1]
    for query in range(len(value)):
        v = value[query]
        if v > 0:
            for e in range(np.uintp(indptr[query]), np.uintp(indptr[query + 1])):
                best[slots[e]] = max(best[slots[e]], min(v, widths[e] & _NO_SIGN))


@nb.njit(cache=True, nogil=True)
def widest(indptr, slots, weights, drop, sources, level, columns, residual):  # type: ignore[no-untyped-def]
    """Return float32[n_tokens]: the largest weight w such that a route of edges of weight >= w survives.

    Residual edges do not narrow a route. 0 where no route survives; sources start at infinity.

    Notes
    -----
    Floats that are not negative sort as their bits do, so this is `reach.reach_pass` on integers, every edge
    capped by its weight and every slot by infinity or, where it is dead, by 0. Slots should be unsigned.
    """
    n_layers, n_heads, n_context = drop.shape
    n_tokens = (len(indptr) - 1) // n_layers
    value = np.zeros(n_tokens, np.int32)
    for source in sources:
        value[source] = _INFINITY
    below = np.empty_like(value)
    best = np.zeros(n_tokens * n_heads, np.int32)
    caps = np.empty((n_heads, n_context), np.int32)
    widths = weights.view(np.int32)
    for layer in range(n_layers - 1, -1, -1):
        rows = indptr[layer * n_tokens : (layer + 1) * n_tokens + 1]
        for head in range(n_heads):
            for key in range(n_context):
                caps[head, key] = _INFINITY if drop[layer, head, key] > level else 0
        for i in range(n_tokens):
            below[i] = value[i] if residual else 0
        first = 0 if columns else n_context
        if not columns:
            scatter_widths(value, best, rows, slots, widths, 0, n_context)
            fold(best, below, caps, 0)
        scatter_widths(value, best, rows, slots, widths, first, n_tokens)
        fold(best, below, caps, n_context)
        value, below = below, value
    return value.view(np.float32)


@nb.njit(cache=True, nogil=True)
def roll(indptr, slots, weights, drop, start, level, columns, share, renormalise):  # type: ignore[no-untyped-def]
    """Return float64[n_tokens]: attention mass that starts as `start` at the top and rolls to the bottom.

    In every layer a token keeps `share` of its mass and spreads the rest over its surviving edges in
    proportion to their weight among all its edges (renormalise: among the surviving ones). What points at
    dead slots is lost (renormalise: lost only where nothing survives).
    """
    n_layers, n_heads, _ = drop.shape
    n_tokens = len(start)
    mass = start.copy()
    for layer in range(n_layers - 1, -1, -1):
        below = share * mass
        for query in range(n_tokens):
            if mass[query] == 0:
                continue
            row = layer * n_tokens + query
            total = 0.0
            for e in range(indptr[row], indptr[row + 1]):
                key, head = slots[e] // n_heads, slots[e] % n_heads
                if not renormalise or is_alive(drop, level, layer, head, key, query, columns):
                    total += weights[e]
            if total == 0:
                continue
            scale = (1 - share) * mass[query] / total
            for e in range(indptr[row], indptr[row + 1]):
                key, head = slots[e] // n_heads, slots[e] % n_heads
                if is_alive(drop, level, layer, head, key, query, columns):
                    below[key] += scale * weights[e]
        mass = below
    return mass


@nb.njit(cache=True, nogil=True)
def cheapest(indptr, slots, drop, free, sources, level, columns, residual):  # type: ignore[no-untyped-def]
    """Return int32[n_layers + 1, n_tokens]: fewest slots to pay for on a route from a source to each node.

    free is bool[n_layers, n_heads, n_tokens]: slots paid for already. -1 where no route survives.
    """
    n_layers, n_heads, _ = drop.shape
    n_tokens = (len(indptr) - 1) // n_layers
    cost = np.full((n_layers + 1, n_tokens), -1, np.int32)
    for source in sources:
        cost[n_layers, source] = 0
    for layer in range(n_layers - 1, -1, -1):
        for query in range(n_tokens):
            c = cost[layer + 1, query]
            if c < 0:
                continue
            if residual and (cost[layer, query] < 0 or cost[layer, query] > c):
                cost[layer, query] = c
            row = layer * n_tokens + query
            for e in range(indptr[row], indptr[row + 1]):
                key, head = slots[e] // n_heads, slots[e] % n_heads
                if is_alive(drop, level, layer, head, key, query, columns):
                    paid = c + (0 if free[layer, head, key] else 1)
                    if cost[layer, key] < 0 or cost[layer, key] > paid:
                        cost[layer, key] = paid
    return cost
