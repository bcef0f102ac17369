"""Kernels that turn scores or random numbers into orders of eviction."""

from __future__ import annotations

import numba as nb
import numpy as np

from routegraph.kernels.rng import below, stream

#: Numbers drawn at once, a loop of its own that becomes SIMD.
_BLOCK = 2048


@nb.njit(cache=True, nogil=True)
def permutation(key, layer, head, out):  # type: ignore[no-untyped-def]
    """Fill out[n] with a uniformly random permutation of 1..n (Fisher and Yates; Durstenfeld 1964)."""
    numbers = stream(key, layer, head)
    places = np.empty(_BLOCK, np.uint32)
    for first in range(0, len(out), _BLOCK):
        stop = min(first + _BLOCK, len(out))
        for i in range(first, stop):
            places[i - first] = below(numbers, i, 0, i + 1)
        for i in range(first, stop):
            j = places[i - first]
            out[i] = out[j]
            out[j] = i + 1


@nb.njit(cache=True, nogil=True)
def permutations(key, n_layers, n_heads, n):  # type: ignore[no-untyped-def]
    """Return int32[n_layers, n_heads, n]: an independent random permutation of 1..n in each (layer, head).

    The first axis is for layers 1..n_layers, the numbers that name the streams.
    """
    out = np.empty((n_layers, n_heads, n), np.int32)
    for layer in range(n_layers):
        for head in range(n_heads):
            permutation(key, layer + 1, head, out[layer, head])
    return out


@nb.njit(cache=True, nogil=True)
def uniform_levels(key, layer, head, top, out):  # type: ignore[no-untyped-def]
    """Fill out[n] with independent levels uniform on 1..top."""
    numbers = stream(key, layer, head)
    for i in range(len(out)):
        out[i] = below(numbers, i, 0, top) + 1


@nb.njit(cache=True, nogil=True)
def random_levels(key, n_layers, n_heads, n, top):  # type: ignore[no-untyped-def]
    """Return int32[n_layers, n_heads, n]: independent levels uniform on 1..top; streams as in `permutations`."""
    out = np.empty((n_layers, n_heads, n), np.int32)
    for layer in range(n_layers):
        for head in range(n_heads):
            uniform_levels(key, layer + 1, head, top, out[layer, head])
    return out


@nb.njit(cache=True, nogil=True)
def merge_with_safeguard(values, order, safe):  # type: ignore[no-untyped-def]
    """Evict n_heads slots a level, lowest value first over all heads, sparing each head's best.

    Parameters
    ----------
    values : float[n_heads, n]
        Scores of one layer.
    order : int[n_heads, n]
        Positions of each head from the lowest score up.
    safe : int[n + 1]
        safe[k]: rows each head keeps at level k whatever their score; not increasing.

    Returns
    -------
    int32[n_heads, n]
        Level at which each slot dies. Of equal scores the later (head, position) dies first.

    Notes
    -----
    Every head loses its own rows in order of score, so the state is one pointer a head.
    """
    n_heads, n = values.shape
    drop = np.empty((n_heads, n), np.int32)
    gone = np.zeros(n_heads, np.int64)
    for level in range(1, n + 1):
        for _ in range(n_heads):
            victim = -1
            for head in range(n_heads):
                if gone[head] < n - safe[level] and (
                    victim < 0
                    or values[head, order[head, gone[head]]] <= values[victim, order[victim, gone[victim]]]
                ):
                    victim = head
            drop[victim, order[victim, gone[victim]]] = level
            gone[victim] += 1
    return drop
