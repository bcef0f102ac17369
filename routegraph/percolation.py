"""Clusters of the surviving graph, directions forgotten: the largest one, and what hangs together with a source."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.graph import TokenGraph
from routegraph.kernels import union_find
from routegraph.routes import check_prune, check_sizes
from routegraph.survival import Survival, check_positions


def largest_component(
    graph: TokenGraph, survival: Survival, prune: str = "columns", residual: bool = False
) -> NDArray[np.int64]:
    """Return the size of the largest weakly connected component at every level.

    Parameters
    ----------
    graph : TokenGraph
        Read edges.
    survival : Survival
        Level at which each slot dies; its sizes must be those of the graph.
    prune : {"columns", "decode"}
        Which edges a dead slot takes with it, as for `routegraph.routes.reach_thresholds`.
    residual : bool
        Join (layer, i) and (layer - 1, i) at every level. Then no component is smaller than a column of
        n_layers + 1 nodes.

    Returns
    -------
    int64[max_level + 1]
        Nodes (layer, position), of all n_layers + 1 rows, in the largest component of the edges alive at levels
        0..max_level. Not increasing.

    Raises
    ------
    ValueError
        If sizes differ or the pruning is unknown.

    Notes
    -----
    One sweep from the last level to level 0, edges joining as their slots come alive (Newman and Ziff 2001):
    O(edges log*) for all levels.
    """
    check_prune(prune)
    check_sizes(graph, survival)
    bonds = _bonds(graph, survival, prune, residual)
    n_nodes = (graph.n_layers + 1) * graph.n_tokens
    found: NDArray[np.int64] = union_find.sweep(*bonds, n_nodes, survival.max_level)
    return found


def weak_thresholds(
    graph: TokenGraph,
    survival: Survival,
    sources: ArrayLike,
    prune: str = "columns",
    residual: bool = True,
) -> NDArray[np.int64]:
    """Return, for each token, the highest level at which it hangs together with a source, directions forgotten.

    Reach of undirected percolation: with the lattice ensemble and every position a source, crossings of the square
    lattice.

    Parameters
    ----------
    graph, survival, prune, residual
        As for `routegraph.routes.reach_thresholds`.
    sources : int or sequence of int
        Positions at the top layer.

    Returns
    -------
    int64[n_tokens]
        For the tokens of the bottom row: max_level if connected at every level, -1 if at none. At least
        `routegraph.routes.reach_thresholds`, but for the sources: these are at the top layer alone here.

    Raises
    ------
    ValueError
        As for `routegraph.routes.reach_thresholds`.
    """
    check_sizes(graph, survival)
    check_prune(prune)
    top = graph.n_layers * graph.n_tokens + check_positions(sources, graph.n_tokens, "source")
    bonds = _bonds(graph, survival, prune, residual)
    n_nodes = (graph.n_layers + 1) * graph.n_tokens
    joined: NDArray[np.int64] = union_find.levels_of_joining(*bonds, top, n_nodes, survival.max_level)
    return joined[: graph.n_tokens] - 1


def _bonds(
    graph: TokenGraph, survival: Survival, prune: str, residual: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return both ends of every bond, and the level from which on it is gone."""
    layer, head, query, key = graph.edges()
    top = survival.max_level + 1
    spared = (key >= graph.n_context) | ((query < graph.n_context) & (prune == "decode"))
    birth = np.full(len(key), top, dtype=np.int64)
    cut = ~spared
    birth[cut] = survival.drop[layer[cut] - 1, head[cut], key[cut]]
    first, second = layer * graph.n_tokens + query, (layer - 1) * graph.n_tokens + key
    if residual:
        upper = np.arange(graph.n_tokens, (graph.n_layers + 1) * graph.n_tokens)
        first, second = np.concatenate([first, upper]), np.concatenate([second, upper - graph.n_tokens])
        birth = np.concatenate([birth, np.full(len(upper), top)])
    return first, second, birth
