"""The same answers from other libraries: at how many of the ratios each token is reached from the query.

A peer is a function (problem, levels) -> bool[n_levels, n_tokens]. Each gets its own best bulk way to make the
graph of one level from arrays, and its own search. What all levels share (arrays of edges with the level at which each
dies) is made before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from routegraph import Survival, TokenGraph

Reached = NDArray[np.bool_]


class Problem(NamedTuple):
    """One graph with nodes layer * n_tokens + position, edges sorted by their upper end, residual ones included."""

    n_nodes: int
    n_tokens: int
    source: int
    upper: NDArray[np.int32]
    lower: NDArray[np.int32]
    lifetime: NDArray[np.int32]
    graph: TokenGraph
    survival: Survival


def problem_of(graph: TokenGraph, survival: Survival) -> Problem:
    """Lay out a stored graph for the peers; the source is the last position."""
    layer, head, query, key = graph.edges()
    never = survival.max_level + 1
    padded = np.full((graph.n_layers, graph.n_heads, graph.n_tokens), never)
    padded[..., : graph.n_context] = survival.drop
    n = graph.n_tokens
    n_nodes = (graph.n_layers + 1) * n
    residual = np.arange(n, n_nodes)
    upper = np.concatenate([layer * n + query, residual])
    lower = np.concatenate([(layer - 1) * n + key, residual - n])
    lifetime = np.concatenate([padded[layer - 1, head, key], np.full(len(residual), never)])
    order = np.argsort(upper, kind="stable")
    arrays = [a[order].astype(np.int32) for a in (upper, lower, lifetime)]
    return Problem(n_nodes, n, n_nodes - 1, *arrays, graph, survival)


def scipy_masked_csr(p: Problem, levels: list[int]) -> Reached:
    """A CSR matrix of the surviving edges, then breadth_first_order."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order

    ends = np.concatenate([[0], np.cumsum(np.bincount(p.upper, minlength=p.n_nodes))])
    ones = np.ones(len(p.upper))
    passed = np.zeros(len(p.upper) + 1, np.int32)
    reached = np.zeros((len(levels), p.n_tokens), bool)
    for row, level in zip(reached, levels, strict=True):
        alive = p.lifetime > level
        np.cumsum(alive, out=passed[1:])
        kept = p.lower[alive]
        matrix = csr_array((ones[: len(kept)], kept, passed[ends]), shape=(p.n_nodes, p.n_nodes))
        order = breadth_first_order(matrix, p.source, return_predecessors=False)
        row[order[order < p.n_tokens]] = True
    return reached


def networkx(p: Problem, levels: list[int]) -> Reached:
    """A DiGraph of the surviving edges, then descendants."""
    import networkx as nx

    def search(upper: NDArray[np.int32], lower: NDArray[np.int32]) -> Any:
        graph = nx.DiGraph()
        graph.add_edges_from(zip(upper.tolist(), lower.tolist(), strict=True))
        return nx.descendants(graph, p.source)

    return _by_level(p, levels, search)


def igraph(p: Problem, levels: list[int]) -> Reached:
    """A Graph of the surviving edges, then subcomponent."""
    import igraph as ig

    def search(upper: NDArray[np.int32], lower: NDArray[np.int32]) -> Any:
        graph = ig.Graph(n=p.n_nodes, edges=np.stack([upper, lower], axis=1), directed=True)
        return graph.subcomponent(p.source, mode="out")

    return _by_level(p, levels, search)


def rustworkx(p: Problem, levels: list[int]) -> Reached:
    """A PyDiGraph of the surviving edges, then descendants."""
    import rustworkx as rx

    def search(upper: NDArray[np.int32], lower: NDArray[np.int32]) -> Any:
        graph = rx.PyDiGraph(multigraph=True)
        graph.add_nodes_from(range(p.n_nodes))
        graph.add_edges_from_no_data(list(zip(upper.tolist(), lower.tolist(), strict=True)))
        return rx.descendants(graph, p.source)

    return _by_level(p, levels, search)


def networkit(p: Problem, levels: list[int]) -> Reached:
    """A Graph of the surviving edges (GraphFromCoo), then BFS."""
    import networkit as nk

    nk.setNumberOfThreads(1)
    reached = np.zeros((len(levels), p.n_tokens), bool)
    for row, level in zip(reached, levels, strict=True):
        alive = p.lifetime > level
        pair = p.upper[alive].astype(np.uint64), p.lower[alive].astype(np.uint64)
        graph = nk.GraphFromCoo(pair, n=p.n_nodes, directed=True)
        search = nk.distance.BFS(graph, p.source, storePaths=False)
        search.run()
        row[:] = np.asarray(search.getDistances())[: p.n_tokens] < 1e300
    return reached


def _by_level(p: Problem, levels: list[int], search: Callable[..., Any]) -> Reached:
    reached = np.zeros((len(levels), p.n_tokens), bool)
    for row, level in zip(reached, levels, strict=True):
        alive = p.lifetime > level
        nodes = np.fromiter(search(p.upper[alive], p.lower[alive]), dtype=np.int64)
        row[nodes[nodes < p.n_tokens]] = True
    return reached


def numpy_one_pass(graph: TokenGraph, survival: Survival, source: int) -> NDArray[np.int64]:
    """Thresholds by the same one pass as ours in plain numpy, slot maximum included."""
    never = survival.max_level + 1
    value = np.zeros(graph.n_tokens, np.int32)
    value[source] = never
    best = np.empty(graph.n_tokens * graph.n_heads, np.int32)
    for layer in range(graph.n_layers, 0, -1):
        rows, slots = graph.layer(layer)
        best[:] = 0
        np.maximum.at(best, slots[rows[0] : rows[-1]], np.repeat(value, np.diff(rows)))
        by_key = best.reshape(graph.n_tokens, graph.n_heads)
        np.minimum(by_key[: graph.n_context], survival.drop[layer - 1].T, out=by_key[: graph.n_context])
        np.maximum(value, by_key.max(axis=1), out=value)
    value[source] = never
    return value.astype(np.int64) - 1


#: name -> (function, ratios it is timed on: all 101, or every tenth where a ratio takes long).
SEARCHES: dict[str, tuple[Callable[[Problem, list[int]], Reached], int]] = {
    "scipy": (scipy_masked_csr, 1),
    "networkit": (networkit, 1),
    "rustworkx": (rustworkx, 10),
    "igraph": (igraph, 10),
    "networkx": (networkx, 10),
}
