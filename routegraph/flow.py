"""Slot-disjoint routes: how many ways from the query to a token share no cache row (Menger's theorem)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.graph import TokenGraph
from routegraph.routes import check_prune
from routegraph.survival import Survival, check_positions

#: Returned where a route uses no slot that eviction could take: then no number of lost slots cuts it.
UNCUTTABLE = 2**31 - 1


def disjoint_routes(
    graph: TokenGraph,
    survival: Survival,
    sources: ArrayLike,
    token: int,
    level: int,
    prune: str = "columns",
    residual: bool = True,
) -> int:
    """Return the number of slot-disjoint routes from the sources to a token that survive at a level.

    Parameters
    ----------
    graph, survival, sources, prune, residual
        As for `routegraph.routes.reach_thresholds`.
    token : int
        Position at the bottom layer.
    level : int
        0..max_level: slots with drop <= level are dead.

    Returns
    -------
    int
        Largest number of routes no two of which use the same cuttable slot (layer, head, cache row): the fewest
        further slots whose loss would cut all of them. 0 if the token is not reached. `UNCUTTABLE` if some route
        uses no cuttable slot at all: the token is a source and carries itself, or is read from rows past the
        context, or (prune="decode") by context positions alone.

    Raises
    ------
    ValueError
        If sizes differ, a position or the level is out of range, or the pruning is unknown.

    Notes
    -----
    Maximum flow with slots split in two nodes of capacity 1; all reads of a slot by cuttable queries pass through
    it. Residual steps and reads that eviction cannot cut have no limit. Sources and tokens may be shared. Menger
    (1927), Dinic's algorithm of scipy. O(edges) memory for one token: not for all tokens at once.
    """
    check_prune(prune)
    sizes = (graph.n_layers, graph.n_heads, graph.n_context)
    if survival.drop.shape != sizes:
        raise ValueError(f"graph has (layers, heads, context) {sizes}, survival has {survival.drop.shape}")
    starts = check_positions(sources, graph.n_tokens, "source")
    goal = int(check_positions(token, graph.n_tokens, "token")[0])
    if isinstance(level, bool) or not 0 <= level <= survival.max_level:
        raise ValueError(f"level must be in 0..{survival.max_level}, got {level}")
    if goal in starts:  # as in reach_thresholds, a source is always reached
        return UNCUTTABLE
    return _max_flow(*_network(graph, survival, starts, goal, level, prune == "columns", residual))


def _network(
    graph: TokenGraph,
    survival: Survival,
    starts: NDArray[np.int64],
    goal: int,
    level: int,
    columns: bool,
    residual: bool,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], int, int, int]:
    """Return (tail, head, capacity, n_nodes, source, sink) of the flow network."""
    n_layers, n_heads, n_tokens = graph.n_layers, graph.n_heads, graph.n_tokens
    layer, head, query, key = graph.edges()
    cuttable = (key < graph.n_context) & (columns | (query >= graph.n_context))
    row = np.minimum(key, graph.n_context - 1)
    alive = ~cuttable | (survival.drop[layer - 1, head, row] > level)
    layer, head, query, key = (column[alive] for column in (layer, head, query, key))
    cuttable = cuttable[alive]
    # Nodes: (layer, position), then the two sides of each slot, then the sources together, then the origin.
    nodes = (n_layers + 1) * n_tokens
    slot = ((layer - 1) * n_heads + head) * n_tokens + key
    used, index = np.unique(slot[cuttable], return_inverse=True)
    enter, leave = nodes + 2 * index, nodes + 2 * index + 1
    upper, lower = layer * n_tokens + query, (layer - 1) * n_tokens + key
    source, origin = nodes + 2 * len(used), nodes + 2 * len(used) + 1
    # One edge from the origin bounds the flow, however many unlimited routes there are.
    tails = [upper[cuttable], leave, upper[~cuttable], np.full(len(starts), source), [origin]]
    heads = [enter, lower[cuttable], lower[~cuttable], n_layers * n_tokens + starts, [source]]
    if residual:
        tails.append(np.arange(n_tokens, nodes))
        heads.append(np.arange(nodes - n_tokens))
    unlimited = sum(len(tail) for tail in tails)
    slots = np.arange(len(used))
    tails.append(nodes + 2 * slots)
    heads.append(nodes + 2 * slots + 1)
    capacity = np.ones(unlimited + len(used), dtype=np.int64)
    # More than all slots together is no limit.
    capacity[:unlimited] = len(used) + 1
    return np.concatenate(tails), np.concatenate(heads), capacity, origin + 1, origin, goal


def _max_flow(
    tail: NDArray[Any], head: NDArray[Any], capacity: NDArray[Any], n_nodes: int, source: int, sink: int
) -> int:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    # Parallel edges: equal pairs are merged, so that unlimited ones stay within int32.
    pair = tail.astype(np.int64) * n_nodes + head
    _, first = np.unique(pair, return_index=True)
    matrix = csr_array(
        (capacity[first].astype(np.int32), (tail[first], head[first])), shape=(n_nodes, n_nodes)
    )
    unlimited = int(capacity.max())
    flow = int(maximum_flow(matrix, source, sink).flow_value)
    return UNCUTTABLE if flow >= unlimited else flow
