"""Kernels that draw a layer while they pass it: nothing but a few rows of n numbers is ever held.

The numbers are counter-based (`kernels.rng`), so they may be drawn in any order: head by head, the best reader of each
key of one head needs n entries and stays in the cache where that of all heads would not.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from routegraph.kernels.ranks import permutation, uniform_levels
from routegraph.kernels.rng import below, stream

#: Numbers drawn at once, a loop of its own that becomes SIMD.
BLOCK = 2048


@nb.njit(cache=True, nogil=True)
def scatter_recent(value, best, key, layer, head, degree, width, start, stop):  # type: ignore[no-untyped-def]
    """Draw the reads of queries start..stop-1 of one head; raise best[key] to the value of every reader.

    Each query reads `degree` times, uniform on its last `width` positions; the same reads as those of
    `draw_recent`, the ensembles uniform and window. Queries of value 0 change nothing and are not drawn.
    """
    numbers = stream(key, layer, head)
    reads = np.empty(BLOCK, np.uint32)
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        most = value[first]
        for query in range(first, last):
            most = max(most, value[query])
        if most == 0:
            continue
        for draw in range(degree):
            for query in range(first, last):
                reads[query - first] = query - below(numbers, query, draw, min(query + 1, width))
            for query in range(first, last):
                read = reads[query - first]
                best[read] = max(best[read], value[query])


@nb.njit(cache=True, nogil=True)
def fold_head(best, value, drop, last):  # type: ignore[no-untyped-def]
    """Raise value[key] to best[key], capped by drop[key] for the first len(drop) keys; clear best.

    last[key] is raised to drop[key].
    """
    for key in range(len(drop)):
        value[key] = max(value[key], min(best[key], drop[key]))
        last[key] = max(last[key], drop[key])
    for key in range(len(drop), len(value)):
        value[key] = max(value[key], best[key])
    best[:] = 0


@nb.njit(cache=True, nogil=True)
def random_layer(  # type: ignore[no-untyped-def]
    value, below, best, drop, last, edge_key, rank_key, layer, heads, degree, width, top, columns, residual
):
    """Draw some heads of a layer, reads and levels of death, and carry the values to the layer below.

    Heads are drawn independently, so that several threads may each take some: the largest of their `below` and of their
    `last` is that of all heads.

    Parameters
    ----------
    value, below : int[n_tokens]
        Values of the upper layer; values of the lower layer (overwritten).
    best : int[n_tokens]
        Scratch, zero on entry and on exit.
    drop : int[n_context]
        Scratch.
    last : int[n_context]
        Overwritten: level at which the last of these slots of each key dies.
    edge_key, rank_key : uint64
        Keys of the counter-based numbers.
    layer, degree, width : int
        As for `scatter_recent`.
    heads : (int, int)
        The first head, and the one after the last.
    top : int
        0: the slots of a head die in a random order. Otherwise each at a level uniform on 1..top.
    columns, residual : bool
        As for `reach.layer_pass`.
    """
    n_tokens, n_context = len(value), len(drop)
    for i in range(n_tokens):
        below[i] = value[i] if residual else 0
    last[:] = 0
    # A bare 0 would be a type of its own to numba, and a second compilation.
    start = np.intp(0)
    mortal = start if columns else n_context
    for head in range(heads[0], heads[1]):
        if not columns:  # reads of the context never die
            scatter_recent(value, below, edge_key, layer, head, degree, width, start, mortal)
        scatter_recent(value, best, edge_key, layer, head, degree, width, mortal, n_tokens)
        if top > 0:
            uniform_levels(rank_key, layer, head, top, drop)
        else:
            permutation(rank_key, layer, head, drop)
        fold_head(best, below, drop, last)


@nb.njit(cache=True, nogil=True)
def last_of_heads(drop, last):  # type: ignore[no-untyped-def]
    """Set last[key] to the largest of drop[:, key]."""
    last[:] = 0
    for head in range(len(drop)):
        for key in range(len(last)):
            last[key] = max(last[key], drop[head, key])


@nb.njit(cache=True, nogil=True)
def tally(levels, counts):  # type: ignore[no-untyped-def]
    """Add to counts[level] how often each level occurs."""
    for i in range(len(levels)):
        counts[np.uintp(levels[i])] += 1
