"""Reachability over surviving attention routes, at all levels at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.choices import PRUNING
from routegraph.graph import TokenGraph
from routegraph.kernels import lanes, reach, weights
from routegraph.survival import Survival, check_positions

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
    """Return `reach_thresholds` from each source on its own, int64[n_sources, n_tokens].

    Sources go 64 at a time, at the cost of two or three single passes. That needs the edges by key
    (`TokenGraph.readers`): made at the first call with many sources, at the cost of about ten.
    """
    check_sizes(graph, survival)
    check_prune(prune)
    positions = check_positions(sources, graph.n_tokens, "source")
    if not _pays(graph, len(positions)):
        return np.stack([_thresholds(graph, survival, [p], prune, residual) for p in positions])
    value_type = np.dtype(level_type(survival.max_level))
    lane_type = np.dtype(f"u{value_type.itemsize}")
    nothing = np.empty(0, dtype=lane_type)
    rows = np.empty((graph.n_tokens, len(positions)), dtype=np.int64)
    _lanes(rows, graph, survival, positions, prune, residual, survival.max_level + 1, nothing, lane_type)
    rows -= 1
    return rows.T


def reach_counts(
    graph: TokenGraph,
    survival: Survival,
    sources: ArrayLike,
    ratios: float | Iterable[float],
    prune: str = "columns",
    residual: bool = True,
) -> NDArray[Any]:
    """Return at how many of the ratios each token is reached from each source on its own.

    Reach only falls with the ratio, so a count c means: at the c lowest ratios, and at no other. On a grid of up
    to 255 ratios this is faster than `reach_thresholds_each` and takes an eighth of its memory.

    Parameters
    ----------
    graph, survival, sources, prune, residual
        As for `reach_thresholds_each`.
    ratios : float or sequence of float
        Compression ratios in [0, 1), in any order.

    Returns
    -------
    uint8[n_sources, n_tokens]
        uint16 for more than 255 ratios.

    Raises
    ------
    ValueError
        As for `reach_thresholds_each`, or if there are more than 65,535 ratios.
    """
    check_sizes(graph, survival)
    check_prune(prune)
    positions = check_positions(sources, graph.n_tokens, "source")
    levels = survival.levels(ratios)
    if len(levels) > np.iinfo(np.uint16).max:
        raise ValueError(f"at most {np.iinfo(np.uint16).max} ratios at once, got {len(levels)}")
    count_type = np.min_scalar_type(len(levels))
    # A slot, or a token, that dies at a level is there at every ratio whose level is lower.
    grid = np.zeros(survival.max_level + 2, dtype=count_type)
    np.cumsum(np.bincount(levels, minlength=survival.max_level + 1), out=grid[1:])
    if not _pays(graph, len(positions)):
        each = [_thresholds(graph, survival, [p], prune, residual) for p in positions]
        return grid[np.stack(each) + 1]
    rows = np.empty((graph.n_tokens, len(positions)), dtype=count_type)
    _lanes(rows, graph, survival, positions, prune, residual, len(levels), grid, count_type)
    return rows.T


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
    value = np.zeros((graph.n_layers + 1, graph.n_tokens), dtype=level_type(survival.max_level))
    value[-1, check_positions(sources, graph.n_tokens, "source")] = survival.max_level + 1
    best = np.zeros(graph.n_tokens * graph.n_heads, dtype=value.dtype)
    slots, drop = unsigned(graph.slot), plain(survival.drop)
    for layer in range(graph.n_layers, 0, -1):
        rows, _ = graph.layer(layer)
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


def level_type(max_level: int) -> type[np.integer[Any]]:
    """Return the narrowest integer type of the kernels that holds max_level + 1.

    16 bits up to 65,534 cache rows keep the state in the first caches, 32 beyond.

    Raises
    ------
    ValueError
        If not even 32 bits hold it.
    """
    if max_level >= np.iinfo(np.int32).max:
        raise ValueError(f"at most {np.iinfo(np.int32).max - 1} levels can be told apart, got {max_level}")
    return np.uint16 if max_level < np.iinfo(np.uint16).max else np.int32


def unsigned(slots: NDArray[Any]) -> NDArray[Any]:
    """Return slots as the kernels want them, the same memory."""
    return slots.view(np.dtype(f"u{slots.itemsize}"))


def plain(drop: NDArray[Any]) -> NDArray[np.int32]:
    """Return levels of death as the kernels want them: 32 bits, contiguous; copied only if they are not."""
    return np.ascontiguousarray(drop, dtype=np.int32)


def _pays(graph: TokenGraph, n_sources: int) -> bool:
    """Return whether so many sources are faster together, the sorting of edges by key included."""
    return n_sources >= (3 if "readers" in vars(graph) else 12)


def _lanes(
    out: NDArray[Any],
    graph: TokenGraph,
    survival: Survival,
    sources: NDArray[np.int64],
    prune: str,
    residual: bool,
    top: int,
    grid: NDArray[Any],
    dtype: np.dtype[Any],
) -> None:
    """Fill out[n_tokens, n_sources] with values of `dtype`, at most `top`; grid turns levels into values."""
    drop, slots, columns = plain(survival.drop), unsigned(graph.slot), prune == "columns"
    value, below = (_rows_of_cache_lines(graph.n_tokens + 1, dtype) for _ in range(2))
    for first in range(0, len(sources), lanes.WIDTH):
        group = sources[first : first + lanes.WIDTH]
        value[:] = 0
        value[group, np.arange(len(group))] = top
        edges = (graph.indptr, slots, tuple(graph.readers))
        bottom = lanes.lanes_pass(value, below, group, *edges, drop, grid, columns, residual)
        out[:, first : first + len(group)] = bottom[:-1, : len(group)]
    out[sources, np.arange(len(sources))] = top


def _rows_of_cache_lines(n_rows: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array[n_rows, lanes.WIDTH] that starts at a cache line; its last row is zero."""
    size = n_rows * lanes.WIDTH * dtype.itemsize
    memory = np.empty(size + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    rows = memory[start : start + size].view(dtype).reshape(n_rows, lanes.WIDTH)
    rows[-1] = 0
    return rows


def _thresholds(
    graph: TokenGraph, survival: Survival, sources: NDArray[np.int64] | list[int], prune: str, residual: bool
) -> NDArray[np.int64]:
    top = survival.max_level + 1
    value = np.zeros(graph.n_tokens, dtype=level_type(survival.max_level))
    value[sources] = top
    slots, drop = unsigned(graph.slot), plain(survival.drop)
    result = reach.reach_pass(value, graph.indptr, slots, drop, prune == "columns", residual)
    result[sources] = top
    return np.asarray(result, dtype=np.int64) - 1
