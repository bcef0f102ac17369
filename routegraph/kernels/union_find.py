"""Clusters by union-find: all occupations of a bond or site percolation from one sweep.

Newman and Ziff, Phys. Rev. E 64, 016706 (2001). One array holds everything: ``parent[i]`` is the parent of i, or
minus the size of the cluster whose root i is. Unions go by size, and every search halves its path.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from routegraph.kernels.rng import below, stream


@nb.njit(cache=True, nogil=True, inline="always")
def find(parent, node):  # type: ignore[no-untyped-def]
    """Return the root of the cluster of `node`, halving the path on the way."""
    while parent[node] >= 0:
        above = parent[node]
        if parent[above] >= 0:
            parent[node] = parent[above]
        node = above
    return node


@nb.njit(cache=True, nogil=True, inline="always")
def union(parent, a, b):  # type: ignore[no-untyped-def]
    """Join the clusters of roots a and b, a != b; returns the root of the union."""
    if parent[a] > parent[b]:  # sizes are negative: b is the larger
        a, b = b, a
    parent[a] += parent[b]
    parent[b] = a
    return a


@nb.njit(cache=True, nogil=True)
def newman_ziff(edges, n_nodes, order):  # type: ignore[no-untyped-def]
    """Add bonds one by one and follow the clusters.

    Parameters
    ----------
    edges : int[n_edges, 2]
        Bonds between nodes 0..n_nodes-1; loops and parallel bonds allowed.
    n_nodes : int
    order : int[n_added]
        The bonds to add, in this order.

    Returns
    -------
    largest : int64[n_added]
        Size of the largest cluster after each bond.
    squares : float64[n_added]
        Sum over clusters of the square of their size (its mean over nodes is the mean cluster size).
    """
    parent = np.full(n_nodes, -1, np.int64)
    largest = np.empty(len(order), np.int64)
    squares = np.empty(len(order), np.float64)
    best, total = 1, np.float64(n_nodes)
    for step in range(len(order)):
        a, b = find(parent, edges[order[step], 0]), find(parent, edges[order[step], 1])
        if a != b:
            total += 2.0 * parent[a] * parent[b]
            best = max(best, -parent[union(parent, a, b)])
        largest[step] = best
        squares[step] = total
    return largest, squares


@nb.njit(cache=True, nogil=True)
def newman_ziff_sites(indptr, neighbours, order):  # type: ignore[no-untyped-def]
    """Occupy sites one by one and follow the clusters.

    Parameters
    ----------
    indptr, neighbours : int[n_nodes + 1], int[...]
        Neighbours of each site (CSR, both directions).
    order : int[n_added]
        The sites to occupy, in this order, each at most once.

    Returns
    -------
    largest, squares : int64[n_added], float64[n_added]
        As for `newman_ziff`, over occupied sites, after each site.
    """
    parent = np.full(len(indptr) - 1, -1, np.int64)
    occupied = np.zeros(len(indptr) - 1, np.bool_)
    largest = np.empty(len(order), np.int64)
    squares = np.empty(len(order), np.float64)
    best, total = 0, 0.0
    for step in range(len(order)):
        site = order[step]
        occupied[site] = True
        total += 1.0
        root = np.int64(site)
        for e in range(indptr[site], indptr[site + 1]):
            if occupied[neighbours[e]]:
                other = find(parent, neighbours[e])
                if other != root:
                    total += 2.0 * parent[root] * parent[other]
                    root = union(parent, root, other)
        best = max(best, -parent[root])
        largest[step] = best
        squares[step] = total
    return largest, squares


@nb.njit(cache=True, nogil=True)
def bonds_to_cross(edges, sides, key):  # type: ignore[no-untyped-def]
    """Add all bonds in random order until a cluster touches both sides; returns how many that took.

    Parameters
    ----------
    edges : int[n_edges, 2]
        Bonds.
    sides : uint8[n_nodes]
        1 on one side, 2 on the other, 0 elsewhere.
    key : uint64
        Key of the counter-based numbers; the shuffle is fused with the sweep (stream 0, 0), so bonds that
        are never added are never drawn.

    Returns
    -------
    int
        n_edges + 1 if no cluster ever does.
    """
    numbers = stream(key, 0, 0)
    bonds = np.arange(len(edges))
    parent = np.full(len(sides), -1, np.int64)
    touched = sides.copy()
    for step in range(len(bonds)):
        pick = step + below(numbers, step, 0, len(bonds) - step)
        bonds[step], bonds[pick] = bonds[pick], bonds[step]
        a, b = find(parent, edges[bonds[step], 0]), find(parent, edges[bonds[step], 1])
        if a != b:
            both = touched[a] | touched[b]
            touched[union(parent, a, b)] = both
            if both == 3:
                return step + 1
    return len(bonds) + 1


@nb.njit(cache=True, nogil=True)
def sites_to_cross(indptr, neighbours, sides, key):  # type: ignore[no-untyped-def]
    """Occupy all sites in random order until a cluster touches both sides; returns how many that took.

    indptr and neighbours as for `newman_ziff_sites`; sides, key and the shuffle as for `bonds_to_cross`.
    """
    n_nodes = len(sides)
    numbers = stream(key, 0, 0)
    sites = np.arange(n_nodes)
    parent = np.full(n_nodes, -1, np.int64)
    occupied = np.zeros(n_nodes, np.bool_)
    touched = sides.copy()
    for step in range(n_nodes):
        pick = step + below(numbers, step, 0, n_nodes - step)
        sites[step], sites[pick] = sites[pick], sites[step]
        site = sites[step]
        occupied[site] = True
        root = np.int64(site)
        for e in range(indptr[site], indptr[site + 1]):
            if occupied[neighbours[e]]:
                other = find(parent, neighbours[e])
                if other != root:
                    both = touched[root] | touched[other]
                    root = union(parent, root, other)
                    touched[root] = both
        if touched[root] == 3:
            return step + 1
    return n_nodes + 1


@nb.njit(cache=True, nogil=True)
def shuffled(key, n):  # type: ignore[no-untyped-def]
    """Return the order in which `bonds_to_cross` and `sites_to_cross` add things, a permutation of 0..n-1."""
    numbers = stream(key, 0, 0)
    things = np.arange(n)
    for step in range(n):
        pick = step + below(numbers, step, 0, n - step)
        things[step], things[pick] = things[pick], things[step]
    return things


@nb.njit(cache=True, nogil=True)
def by_level(level, max_level):  # type: ignore[no-untyped-def]
    """Return a counting sort of levels in 0..max_level + 1: the order, and where each level starts in it."""
    start = np.zeros(max_level + 3, np.int64)
    for e in range(len(level)):
        start[level[e] + 1] += 1
    start = np.cumsum(start)
    place = start.copy()
    order = np.empty(len(level), np.int64)
    for e in range(len(level)):
        order[place[level[e]]] = e
        place[level[e]] += 1
    return order, start


@nb.njit(cache=True, nogil=True)
def levels_of_joining(first, second, birth, sources, n_nodes, max_level):  # type: ignore[no-untyped-def]
    """Return int64[n_nodes]: up to which level each node hangs together with a source, plus one (0: at none).

    Parameters
    ----------
    first, second, birth, n_nodes, max_level
        As for `sweep`.
    sources : int[...]
        Nodes; their own value is max_level + 1.

    Notes
    -----
    The sweep of `sweep`; the nodes of a cluster form a ring, so that all can be told when a source joins.
    """
    order, start = by_level(birth, max_level)
    parent = np.full(n_nodes, -1, np.int64)
    ring = np.arange(n_nodes)
    joined = np.zeros(n_nodes, np.int64)
    joined[sources] = max_level + 1
    for level in range(max_level, -1, -1):
        for k in range(start[level + 1], start[level + 2]):
            one, other = first[order[k]], second[order[k]]
            a, b = find(parent, one), find(parent, other)
            if a == b:
                continue
            if (joined[one] > 0) != (joined[other] > 0):
                node = late = other if joined[one] > 0 else one
                joined[node] = level + 1
                while ring[node] != late:
                    node = ring[node]
                    joined[node] = level + 1
            ring[one], ring[other] = ring[other], ring[one]
            union(parent, a, b)
    return joined


@nb.njit(cache=True, nogil=True)
def sweep(first, second, birth, n_nodes, max_level):  # type: ignore[no-untyped-def]
    """Return int64[max_level + 1]: the largest cluster at each level, bonds living on levels 0..birth - 1.

    Parameters
    ----------
    first, second : int[n_bonds]
        Ends of each bond.
    birth : int[n_bonds]
        A bond is there at every level below this number (0: never), at most max_level + 1.
    n_nodes, max_level : int

    Notes
    -----
    One sweep from the highest level down, bonds in the order of a counting sort.
    """
    order, start = by_level(birth, max_level)
    parent = np.full(n_nodes, -1, np.int64)
    largest = np.empty(max_level + 1, np.int64)
    best = 1
    for level in range(max_level, -1, -1):
        for k in range(start[level + 1], start[level + 2]):
            a, b = find(parent, first[order[k]]), find(parent, second[order[k]])
            if a != b:
                best = max(best, -parent[union(parent, a, b)])
        largest[level] = best
    return largest
