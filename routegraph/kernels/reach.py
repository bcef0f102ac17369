"""The one-pass kernels of reachability: widest path over levels, one layer at a time.

The value of a node is the highest level, plus one, at which it is still reached (0: never). Reading slot
(head, key) from queries of value v gives ``min(max v, drop)``: the maximum over readers first, so that
`drop` is read once a slot and not once an edge.

Values and `best` may be of any integer type that holds max_level + 1; 16 bits keep them in the first caches.
Slots should be unsigned: a signed index costs numba a test for negative ones, which also keeps the compiler
from taking the maximum without a branch (4 ns an edge instead of 0.5).
"""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True)
def scatter(value, best, indptr, slots, start, stop):  # type: ignore[no-untyped-def]
    """Raise best[slot] to the value of every query in start..stop-1 that reads the slot."""
    value, indptr = value[start:stop], indptr[start : stop + 1]  # counting from 0 spares the same test
    for query in range(len(value)):
        v = value[query]
        if v > 0:
            for e in range(np.uintp(indptr[query]), np.uintp(indptr[query + 1])):
                best[slots[e]] = max(best[slots[e]], v)


@nb.njit(inline="always", cache=True)
def _fold(best, value, drop, n_capped, n_heads):  # type: ignore[no-untyped-def]
    for key in range(n_capped):
        v = value[key]
        for head in range(n_heads):
            v = max(v, min(best[key * n_heads + head], value.dtype.type(drop[head, key])))
        value[key] = v
    for key in range(n_capped, len(value)):
        for head in range(n_heads):
            value[key] = max(value[key], best[key * n_heads + head])
    best[:] = 0


@nb.njit(cache=True, nogil=True)
def fold(best, value, drop, n_capped):  # type: ignore[no-untyped-def]
    """Raise value[key] to the best of its slots, capped by drop[head, key]; clear best.

    Only the first n_capped keys are capped. With the number of heads known to the compiler
    the loop over keys becomes SIMD.
    """
    n_heads = drop.shape[0]
    if n_heads == 8:
        _fold(best, value, drop, n_capped, 8)
    elif n_heads == 4:
        _fold(best, value, drop, n_capped, 4)
    else:
        _fold(best, value, drop, n_capped, n_heads)


@nb.njit(cache=True, nogil=True)
def layer_pass(value, below, best, indptr, slots, drop, columns, residual):  # type: ignore[no-untyped-def]
    """Carry the values of one layer to the layer below.

    Parameters
    ----------
    value, below : int[n_tokens]
        Values of the upper layer; values of the lower layer (overwritten).
    best : int[n_tokens * n_heads]
        Scratch, zero on entry and on exit.
    indptr, slots : int64[n_tokens + 1], int[...]
        Edges of the layer by query; slot = key * n_heads + head.
    drop : int[n_heads, n_context]
        Level at which each slot dies.
    columns : bool
        Eviction cuts every edge into a dead slot; otherwise ("decode") only those of queries
        at or after n_context.
    residual : bool
        Whether a token also carries itself down.
    """
    n_tokens = len(value)
    n_context = drop.shape[1]
    for i in range(n_tokens):
        below[i] = value[i] if residual else 0
    first = 0
    if not columns:
        scatter(value, best, indptr, slots, 0, n_context)
        fold(best, below, drop, 0)
        first = n_context
    scatter(value, best, indptr, slots, first, n_tokens)
    fold(best, below, drop, n_context)


@nb.njit(cache=True, nogil=True)
def reach_pass(value, indptr, slots, drop, columns, residual):  # type: ignore[no-untyped-def]
    """Carry the values of the top layer to the bottom; returns int[n_tokens].

    indptr is int64[n_layers * n_tokens + 1], drop int[n_layers, n_heads, n_context].
    """
    n_tokens = len(value)
    n_layers, n_heads, _ = drop.shape
    value = value.copy()
    below = np.empty_like(value)
    best = np.zeros(n_tokens * n_heads, value.dtype)
    for layer in range(n_layers, 0, -1):
        rows = indptr[(layer - 1) * n_tokens : layer * n_tokens + 1]
        layer_pass(value, below, best, rows, slots, drop[layer - 1], columns, residual)
        value, below = below, value
    return value
