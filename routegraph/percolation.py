"""Clusters of the surviving graph, directions forgotten: the largest weakly connected component."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph.graph import TokenGraph
from routegraph.kernels import union_find
from routegraph.routes import check_prune
from routegraph.survival import Survival


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
    sizes = (graph.n_layers, graph.n_heads, graph.n_context)
    if survival.drop.shape != sizes:
        raise ValueError(f"graph has (layers, heads, context) {sizes}, survival has {survival.drop.shape}")
    layer, head, query, key = graph.edges()
    top = survival.max_level + 1
    n_nodes = (graph.n_layers + 1) * graph.n_tokens
    spared = (key >= graph.n_context) | ((query < graph.n_context) & (prune == "decode"))
    birth = np.full(len(key), top, dtype=np.int64)
    cut = ~spared
    birth[cut] = survival.drop[layer[cut] - 1, head[cut], key[cut]]
    first, second = layer * graph.n_tokens + query, (layer - 1) * graph.n_tokens + key
    if residual:
        upper = np.arange(graph.n_tokens, n_nodes)
        first, second = np.concatenate([first, upper]), np.concatenate([second, upper - graph.n_tokens])
        birth = np.concatenate([birth, np.full(len(upper), top)])
    found: NDArray[np.int64] = union_find.sweep(first, second, birth, n_nodes, survival.max_level)
    return found
