"""How many routes at once: slot-disjoint routes by maximum flow."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from routegraph.graph import TokenGraph
from routegraph.percolation import edge_lifetimes
from routegraph.survival import Survival, check_positions


def disjoint_routes(
    graph: TokenGraph,
    survival: Survival,
    sources: ArrayLike,
    token: int,
    level: int,
    prune: str = "columns",
    residual: bool = True,
) -> float:
    """Return the largest number of routes to a token no two of which share a slot.

    Parameters
    ----------
    graph, survival, prune, residual
        As for `reach_thresholds`.
    sources : int or int[n]
        Positions at the top layer from which routes start.
    token : int
        Position at the bottom layer.
    level : int
        Level of eviction, 0..max_level.

    Returns
    -------
    float
        A whole number; infinity if some route reads no cache row at all. By Menger's theorem also the
        fewest slots whose loss cuts the token off.

    Raises
    ------
    ValueError
        If sizes differ, a position is outside the graph, or the level out of range.

    Notes
    -----
    A slot (layer, head, key) of a cache row has capacity 1, whoever reads it; positions, residual edges and
    slots of positions after the context have no limit. Prop. 1 of arXiv 2603.01426 counts such routes.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_flow

    if not 0 <= level <= survival.max_level:
        raise ValueError(f"level must be in 0..{survival.max_level}, got {level}")
    starts = check_positions(sources, graph.n_tokens, "source")
    goal = int(check_positions(token, graph.n_tokens, "token")[0])
    alive = edge_lifetimes(graph, survival, prune) >= level
    layer, head, query, key = (column[alive] for column in graph.edges())
    n_nodes = (graph.n_layers + 1) * graph.n_tokens
    above, below = layer * graph.n_tokens + query, (layer - 1) * graph.n_tokens + key
    # Every slot becomes an edge of its own, from its entrance to its exit.
    slot = ((layer - 1) * graph.n_heads + head) * graph.n_tokens + key
    used, entrance = np.unique(slot, return_inverse=True)
    limited = used % graph.n_tokens < graph.n_context
    unlimited = int(limited.sum()) + 1
    ways_in, ways_out = n_nodes + entrance, n_nodes + len(used) + entrance
    first = n_nodes + 2 * len(used)
    tails = [above, ways_out, n_nodes + np.arange(len(used)), np.full(len(starts), first)]
    heads = [
        ways_in,
        below,
        n_nodes + len(used) + np.arange(len(used)),
        graph.n_layers * graph.n_tokens + starts,
    ]
    capacity = [np.full(len(part), unlimited) for part in tails]
    capacity[2] = np.where(limited, 1, unlimited)
    if residual:
        node = np.arange(graph.n_tokens, n_nodes)
        tails.append(node)
        heads.append(node - graph.n_tokens)
        capacity.append(np.full(len(node), unlimited))
    where = (np.concatenate(tails), np.concatenate(heads))
    # Parallel edges are summed; capping keeps the sum inside 32 bits.
    network = coo_array(
        (np.concatenate(capacity).astype(np.int64), where), shape=(first + 1, first + 1)
    ).tocsr()
    network.data = np.minimum(network.data, unlimited).astype(np.int32)
    flow = int(maximum_flow(network.astype(np.int32), first, goal).flow_value)
    return math.inf if flow >= unlimited else float(flow)
