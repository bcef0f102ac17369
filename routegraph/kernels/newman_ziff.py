"""The largest cluster of a random bond percolation at every number of bonds, as fast as the machine allows.

The same sweep as `union_find.newman_ziff` in the order of `union_find.shuffled`, in one loop: bonds of 8 bytes are
shuffled themselves (not their numbers), parents take 4, the shuffle's random numbers are drawn in blocks.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from routegraph.kernels.rng import below, stream

#: Numbers drawn at once, a loop of its own that becomes SIMD.
_BLOCK = 1024
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@nb.njit(inline="always", cache=True)
def _root(parent, node):  # type: ignore[no-untyped-def]
    """Return the root of a node; every node on the way is hung on its grandparent (path splitting)."""
    above = parent[node]
    while above >= 0:
        next_above = parent[np.uintp(above)]
        if next_above >= 0:
            parent[node] = next_above
        node = np.uintp(above)
        above = next_above
    return node


@nb.njit(cache=True, nogil=True)
def largest_clusters(first, second, n_nodes, key):  # type: ignore[no-untyped-def]
    """Add all bonds in random order; returns int32[n_bonds], the largest cluster after each.

    Parameters
    ----------
    first, second : int[n_bonds]
        Ends of each bond, in 0..n_nodes-1; loops and parallel bonds allowed.
    n_nodes : int
        Below 2**31.
    key : uint64
        Key of the counter-based numbers (stream 0, 0).
    """
    n_bonds = len(first)
    bonds = np.empty(n_bonds, np.uint64)
    for k in range(n_bonds):
        bonds[k] = (np.uint64(first[k]) << _HALF) | np.uint64(second[k])
    numbers = stream(key, 0, 0)
    places = np.empty(_BLOCK, np.uint32)
    parent = np.full(n_nodes, -1, np.int32)
    largest = np.empty(n_bonds, np.int32)
    best = np.int32(1)
    for start in range(0, n_bonds, _BLOCK):
        stop = min(start + _BLOCK, n_bonds)
        for step in range(start, stop):
            places[step - start] = step + below(numbers, step, 0, n_bonds - step)
        for step in range(start, stop):
            place = places[step - start]
            bond = bonds[place]
            bonds[place] = bonds[step]
            a = _root(parent, np.uintp(bond >> _HALF))
            b = _root(parent, np.uintp(bond & _LOW))
            if a != b:
                if parent[a] > parent[b]:  # sizes are negative: b is the larger
                    a, b = b, a
                size = parent[a] + parent[b]
                parent[a] = size
                parent[b] = a
                best = max(best, -size)
            largest[step] = best
    return largest
