"""Weak connectivity of the surviving graph at every level, by one Newman-Ziff sweep."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph.graph import TokenGraph
from routegraph.kernels.union_find import newman_ziff
from routegraph.routes import check_prune, check_sizes
from routegraph.survival import Survival


def edge_lifetimes(graph: TokenGraph, survival: Survival, prune: str = "columns") -> NDArray[np.int64]:
    """Return the highest level at which each read edge exists, int64[n_edges] in 0..max_level.

    Raises
    ------
    ValueError
        If the sizes of graph and survival differ, or the pruning is unknown.
    """
    check_sizes(graph, survival)
    check_prune(prune)
    layer, head, query, key = graph.edges()
    drop = survival.drop[layer - 1, head, np.minimum(key, graph.n_context - 1)].astype(np.int64)
    spared = (key >= graph.n_context) | ((query < graph.n_context) & (prune == "decode"))
    return np.where(spared, survival.max_level, drop - 1)


def largest_component(
    graph: TokenGraph, survival: Survival, prune: str = "columns", residual: bool = True
) -> NDArray[np.int64]:
    """Return the size of the largest weakly connected component at every level.

    Parameters
    ----------
    graph : TokenGraph
        Read edges; nodes are all (layer, position), (n_layers + 1) * n_tokens of them.
    survival : Survival
        Level at which each slot dies.
    prune : {"columns", "decode"}
        Which edges a dead slot cuts.
    residual : bool
        Whether the residual edges, which never die, connect as well.

    Returns
    -------
    int64[max_level + 1]

    Notes
    -----
    Edges are added from the last survivor to the first to die, so one union-find sweep answers all levels
    (Newman and Ziff 2000).
    """
    lifetime = edge_lifetimes(graph, survival, prune)
    layer, _, query, key = graph.edges()
    n_nodes = (graph.n_layers + 1) * graph.n_tokens
    bonds = np.stack([layer * graph.n_tokens + query, (layer - 1) * graph.n_tokens + key], axis=1)
    if residual:
        node = np.arange(graph.n_tokens, n_nodes)
        bonds = np.concatenate([np.stack([node, node - graph.n_tokens], axis=1), bonds])
        lifetime = np.concatenate([np.full(len(node), survival.max_level), lifetime])
    order = np.argsort(-lifetime, kind="stable")
    largest, _ = newman_ziff(bonds, n_nodes, order)
    levels = np.arange(survival.max_level + 1)
    alive = np.searchsorted(-lifetime[order], -levels, side="right")
    return np.concatenate([[1], largest])[alive]
