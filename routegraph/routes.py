"""Reachability over surviving attention routes, at all levels at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.graph import TokenGraph
from routegraph.kernels import reach, weights
from routegraph.survival import Survival, check_positions

PRUNING = ("columns", "decode")
Step = tuple[int, int, int, int]


def check_prune(prune: str) -> None:
    """Raise ValueError unless `prune` names a pruning semantics."""
    if prune not in PRUNING:
        raise ValueError(f"unknown pruning {prune!r}; choose from: {', '.join(PRUNING)}")


def reach_thresholds(
    graph: TokenGraph,
    survival: Survival,
    sources: ArrayLike,
    prune: str = "columns",
    residual: bool = True,
) -> NDArray[np.int64]:
    """Return the largest level at which each token is still reached from the sources.

    One pass over the edges answers every compression ratio: token j is reached at ratio r exactly
    when ``survival.level(r) <= result[j]``.

    Parameters
    ----------
    graph : TokenGraph
        Read edges.
    survival : Survival
        Level at which each slot dies; its sizes must be those of the graph.
    sources : int or int[n]
        Positions at the top layer from which routes start (usually the query); the best of them counts.
    prune : {"columns", "decode"}
        "columns": an edge is gone when its slot is dead (the paper's compressed graph). "decode": only
        when the query also comes after the context, as in prefill-then-evict.
    residual : bool
        Whether a token may also carry itself down a layer; such steps never die.

    Returns
    -------
    int64[n_tokens]
        max_level: reached at every level (sources always are); -1: at none.

    Raises
    ------
    ValueError
        If sizes differ, a source is outside the graph, or the pruning is unknown.

    Notes
    -----
    Widest path by dynamic programming over layers, O(edges + layers * heads * tokens). Reachability
    event of arXiv 2603.01426 (R_alpha(q)), at all alpha.
    """
    check_sizes(graph, survival)
    check_prune(prune)
    return _thresholds(graph, survival, check_positions(sources, graph.n_tokens, "source"), prune, residual)


def reach_thresholds_each(
    graph: TokenGraph,
    survival: Survival,
    sources: ArrayLike,
    prune: str = "columns",
    residual: bool = True,
) -> NDArray[np.int64]:
    """Return `reach_thresholds` from each source on its own, int64[n_sources, n_tokens]."""
    check_sizes(graph, survival)
    check_prune(prune)
    positions = check_positions(sources, graph.n_tokens, "source")
    return np.stack(
        [_thresholds(graph, survival, positions[k : k + 1], prune, residual) for k in range(len(positions))]
    )


def reach_by_layer(
    graph: TokenGraph,
    survival: Survival,
    sources: ArrayLike,
    prune: str = "columns",
    residual: bool = True,
) -> NDArray[np.int64]:
    """Return `reach_thresholds` at every depth, int64[n_layers + 1, n_tokens].

    Row l holds the largest level at which node (l, token) is reached: row n_layers the sources alone, row 0
    the bottom (where, unlike in `reach_thresholds`, a source must get there to count).
    """
    check_sizes(graph, survival)
    check_prune(prune)
    value = np.zeros((graph.n_layers + 1, graph.n_tokens), dtype=np.int32)
    value[-1, check_positions(sources, graph.n_tokens, "source")] = survival.max_level + 1
    drop = survival.drop.astype(np.int32, copy=False)
    best = np.zeros(graph.n_tokens * graph.n_heads, dtype=np.int32)
    for layer in range(graph.n_layers, 0, -1):
        rows, slots = graph.layer(layer)
        upper, lower = value[layer], value[layer - 1]
        reach.layer_pass(upper, lower, best, rows, slots, drop[layer - 1], prune == "columns", residual)
    return np.asarray(value, dtype=np.int64) - 1


def winning_ticket(
    graph: TokenGraph,
    survival: Survival,
    sources: ArrayLike,
    token: int,
    prune: str = "columns",
    residual: bool = True,
) -> list[Step] | None:
    """Return the route from the sources to `token` that survives longest.

    Parameters
    ----------
    graph, survival, sources, prune, residual
        As for `reach_thresholds`.
    token : int
        Position at the bottom layer.

    Returns
    -------
    list of (layer, head, query, key), or None
        The read edges of the route from the top down; between two of them the token carries itself down
        by residual steps. Of the routes that survive longest, one with the fewest reads. Empty if no read
        is needed (the token is a source), None if no route exists at any level. The weakest slot on the
        route that eviction can cut dies just above ``reach_thresholds(...)[token]``.

    Notes
    -----
    The token-route lottery ticket of arXiv 2603.01426, made unique by survival.
    """
    thresholds = reach_thresholds(graph, survival, sources, prune, residual)
    goal = int(check_positions(token, graph.n_tokens, "token")[0])
    starts = check_positions(sources, graph.n_tokens, "source")
    if goal in starts:
        return []
    if thresholds[goal] < 0:
        return None
    level = int(thresholds[goal])
    return _cheapest_route(graph, survival, starts, goal, level, prune, residual, _nothing_free(graph))


def backbone(
    graph: TokenGraph,
    survival: Survival,
    sources: ArrayLike,
    tokens: ArrayLike,
    level: int,
    prune: str = "columns",
    residual: bool = True,
) -> list[Step] | None:
    """Return a small set of read edges that joins the sources to all `tokens` at a level.

    Parameters
    ----------
    graph, survival, sources, prune, residual
        As for `reach_thresholds`.
    tokens : int[n]
        Positions at the bottom layer that must all be reached.
    level : int
        Level of eviction, 0..max_level.

    Returns
    -------
    list of (layer, head, query, key), or None
        Edges whose slots (layer, head, key) alone keep every token reached; None if one is not reached.

    Notes
    -----
    Fewest slots is a Steiner problem. Greedy: the token whose route needs the fewest slots not yet paid for
    comes next (Takahashi and Matsuyama 1980), so each token alone, and so one token, is exact.
    """
    goals = set(check_positions(tokens, graph.n_tokens, "token").tolist())
    starts = check_positions(sources, graph.n_tokens, "source")
    thresholds = reach_thresholds(graph, survival, starts, prune, residual)
    if any(thresholds[goal] < level for goal in goals):
        return None
    columns = prune == "columns"
    free = _nothing_free(graph)
    steps: list[Step] = []
    goals -= set(starts.tolist())
    while goals:
        cost = weights.cheapest(
            graph.indptr, graph.slot, survival.drop, free, starts, level, columns, residual
        )
        goal = min(goals, key=lambda token: (cost[0, token], token))
        goals.remove(goal)
        for step in _cheapest_route(graph, survival, starts, goal, level, prune, residual, free):
            layer, head, _, key = step
            if not free[layer - 1, head, key]:
                free[layer - 1, head, key] = True
            if step not in steps:
                steps.append(step)
    return steps


def _nothing_free(graph: TokenGraph) -> NDArray[np.bool_]:
    return np.zeros((graph.n_layers, graph.n_heads, graph.n_tokens), dtype=np.bool_)


def _cheapest_route(
    graph: TokenGraph,
    survival: Survival,
    starts: NDArray[np.int64],
    goal: int,
    level: int,
    prune: str,
    residual: bool,
    free: NDArray[np.bool_],
) -> list[Step]:
    """Return the read edges, top down, of a route to `goal` that pays for the fewest slots not free."""
    columns = prune == "columns"
    cost = weights.cheapest(graph.indptr, graph.slot, survival.drop, free, starts, level, columns, residual)
    steps: list[Step] = []
    for layer in range(1, graph.n_layers + 1):
        needed = int(cost[layer - 1, goal])
        if residual and cost[layer, goal] == needed:
            continue
        rows, slots = graph.layer(layer)
        edge = slice(int(rows[0]), int(rows[-1]))
        key, head = slots[edge] // graph.n_heads, slots[edge] % graph.n_heads
        query = np.repeat(np.arange(graph.n_tokens), np.diff(rows))
        spared = (key >= graph.n_context) | ((query < graph.n_context) & (not columns))
        capped = np.minimum(key, graph.n_context - 1)
        alive = spared | (survival.drop[layer - 1, head, capped] > level)
        before = cost[layer, query]
        pays = np.where(free[layer - 1, head, key], 0, 1)
        found = int(np.argmax((key == goal) & alive & (before >= 0) & (before + pays == needed)))
        steps.append((layer, int(head[found]), int(query[found]), goal))
        goal = int(query[found])
    return steps[::-1]


def check_sizes(graph: TokenGraph, survival: Survival) -> None:
    """Raise ValueError unless graph and survival have the same layers, heads and context."""
    ours = (graph.n_layers, graph.n_heads, graph.n_context)
    theirs = survival.drop.shape
    if ours != theirs:
        raise ValueError(f"graph has (layers, heads, context) {ours}, survival has {theirs}")


def _thresholds(
    graph: TokenGraph, survival: Survival, sources: NDArray[np.int64], prune: str, residual: bool
) -> NDArray[np.int64]:
    top = survival.max_level + 1
    drop = survival.drop.astype(np.int32, copy=False)
    value = np.zeros(graph.n_tokens, dtype=np.int32)
    value[sources] = top
    result = reach.reach_pass(value, graph.indptr, graph.slot, drop, prune == "columns", residual)
    result[sources] = top
    return np.asarray(result, dtype=np.int64) - 1
