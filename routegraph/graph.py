"""The layered token-attention graph: nodes (layer, position), edges where a head reads a key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import networkx as nx


def heavier(graph: TokenGraph, eps: float) -> TokenGraph:
    """Return the graph of the edges whose weight is above eps."""
    if graph.weight is None:
        raise ValueError("the graph has no attention weights")
    kept = graph.weight > eps
    indptr = np.concatenate([[0], np.cumsum(kept)])[graph.indptr]
    return replace(graph, indptr=indptr, slot=graph.slot[kept], weight=graph.weight[kept])


class Readers(NamedTuple):
    """The same edges sorted by layer and key: who reads each key, the readers of one slot in pairs.

    Attributes
    ----------
    order : uint32[n_layers, n_tokens]
        Keys of each layer, those with the fewest pairs first.
    starts : int64[n_layers * n_tokens + 1]
        The pairs of key order[l - 1, k] are starts[(l - 1) * n_tokens + k] up to the next entry.
    queries : unsigned[n_pairs, 2]
        Who reads; a slot with an odd number of readers has one of them twice.
    heads : unsigned[n_pairs]
        By which head.
    """

    order: NDArray[np.uint32]
    starts: NDArray[np.int64]
    queries: NDArray[Any]
    heads: NDArray[Any]


@dataclass(frozen=True, eq=False)
class TokenGraph:
    """Read edges from (layer, query) to (layer - 1, key), layers 1..n_layers, in layered CSR by query.

    Build one with `from_edges` or `from_networkx`. Residual edges (layer, i) to (layer - 1, i) are not
    stored: they never die, and every function says whether it follows them.

    Attributes
    ----------
    n_layers, n_heads, n_tokens : int
        Layers, KV heads a layer, positions.
    n_context : int
        The first n_context positions are cache rows, the ones eviction acts on.
    causal : bool
        Whether every key is at or before its query.
    indptr : int64[n_layers * n_tokens + 1]
        Edges of (layer l, query i) are indptr[(l-1)*n_tokens + i] up to the next entry.
    slot : int32 or int64[n_edges]
        key * n_heads + head: which cache row the edge reads.
    weight : float32[n_edges] or None
        Attention weight of each edge.
    """

    n_layers: int
    n_heads: int
    n_tokens: int
    n_context: int
    causal: bool
    indptr: NDArray[np.int64]
    slot: NDArray[Any]
    weight: NDArray[np.float32] | None = None

    @classmethod
    def from_edges(
        cls,
        n_layers: int,
        n_heads: int,
        n_tokens: int,
        layer: ArrayLike,
        head: ArrayLike,
        query: ArrayLike,
        key: ArrayLike,
        weight: ArrayLike | None = None,
        n_context: int | None = None,
        causal: bool = True,
    ) -> TokenGraph:
        """Build a graph from edge lists; parallel edges are kept.

        Parameters
        ----------
        n_layers, n_heads, n_tokens : int
            Sizes, each at least 1.
        layer, head, query, key : int[n_edges]
            Edge (layer, query) -> (layer - 1, key) of a KV head: layer in 1..n_layers, head in
            0..n_heads-1, query and key in 0..n_tokens-1.
        weight : float[n_edges], optional
            Attention weights, finite and not negative.
        n_context : int, optional
            Number of cache rows, 0..n_tokens; all by default.
        causal : bool
            Refuse keys after their query (default), or allow them.

        Raises
        ------
        ValueError
            Naming the first edge that is out of range or not causal.
        """
        context = n_tokens if n_context is None else n_context
        for name, size in (("n_layers", n_layers), ("n_heads", n_heads), ("n_tokens", n_tokens)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if not 0 <= context <= n_tokens:
            raise ValueError(f"n_context must be in 0..n_tokens = {n_tokens}, got {context}")
        columns = [_integers(name, a) for name, a in zip(_EDGE, (layer, head, query, key), strict=True)]
        if len({len(column) for column in columns}) != 1:
            sizes = ", ".join(f"{name} {len(c)}" for name, c in zip(_EDGE, columns, strict=True))
            raise ValueError(f"layer, head, query and key must have one length, got {sizes}")
        _check_edges(columns, (n_layers, n_heads, n_tokens), causal)
        layers, heads, queries, keys = columns
        slot_type = np.int32 if n_tokens * n_heads < 2**31 else np.int64
        slot = (keys * n_heads + heads).astype(slot_type)
        row = (layers - 1) * n_tokens + queries
        order = np.lexsort((slot, row))
        indptr = np.zeros(n_layers * n_tokens + 1, dtype=np.int64)
        np.cumsum(np.bincount(row, minlength=n_layers * n_tokens), out=indptr[1:])
        weights = None if weight is None else _weights(weight, len(slot))[order]
        return cls(n_layers, n_heads, n_tokens, context, causal, indptr, slot[order], weights)

    @property
    def n_edges(self) -> int:
        """Number of read edges."""
        return len(self.slot)

    def layer(self, layer: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return (indptr[n_tokens + 1], slot) of one layer; the offsets point into the full slot array."""
        start = (layer - 1) * self.n_tokens
        return self.indptr[start : start + self.n_tokens + 1], self.slot

    def edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return (layer, head, query, key) of every edge, sorted by layer, query, key, head."""
        row = np.repeat(np.arange(self.n_layers * self.n_tokens), np.diff(self.indptr))
        slot = self.slot.astype(np.int64)
        return row // self.n_tokens + 1, slot % self.n_heads, row % self.n_tokens, slot // self.n_heads

    @cached_property
    def readers(self) -> Readers:
        """The edges sorted by key, made when first asked for and kept."""
        from routegraph.kernels import lanes

        order = np.empty((self.n_layers, self.n_tokens), dtype=np.uint32)
        starts = np.empty(self.n_layers * self.n_tokens + 1, dtype=np.int64)
        edges = (self.indptr, self.slot.view(np.dtype(f"u{self.slot.itemsize}")), self.n_heads)
        lanes.count_pairs(*edges, order, starts)
        queries = np.empty((starts[-1], 2), dtype=np.min_scalar_type(self.n_tokens))
        heads = np.empty(starts[-1], dtype=np.min_scalar_type(self.n_heads))
        lanes.fill_pairs(*edges, order, starts, queries, heads)
        return Readers(order, starts, queries, heads)

    def to_networkx(self) -> nx.MultiDiGraph:
        """Return a MultiDiGraph with all n_layers + 1 rows of nodes and the sizes as graph attributes."""
        import networkx as nx

        graph = nx.MultiDiGraph(
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            n_tokens=self.n_tokens,
            n_context=self.n_context,
            causal=self.causal,
            weighted=self.weight is not None,
        )
        graph.add_nodes_from((layer, i) for layer in range(self.n_layers + 1) for i in range(self.n_tokens))
        columns = (column.tolist() for column in self.edges())
        for e, (layer, head, query, key) in enumerate(zip(*columns, strict=True)):
            extra = {} if self.weight is None else {"weight": float(self.weight[e])}
            graph.add_edge((layer, query), (layer - 1, key), head=head, **extra)
        return graph

    @classmethod
    def from_networkx(cls, graph: nx.MultiDiGraph) -> TokenGraph:
        """Build a graph from what `to_networkx` made, or from one of the same shape.

        Raises
        ------
        ValueError
            If a size is missing, a node is no pair (layer, position), or an edge does not go one layer
            down; the first such node or edge is named.
        """
        missing = [name for name in ("n_layers", "n_heads", "n_tokens") if name not in graph.graph]
        if missing:
            raise ValueError(f"networkx graph lacks the graph attribute {missing[0]!r}")
        rows, weights = [], []
        for upper, lower, data in graph.edges(data=True):
            (layer, query), (below, key) = _node(upper), _node(lower)
            if below != layer - 1:
                raise ValueError(
                    f"graph is not layered: edge ({layer}, {query}) -> ({below}, {key}) skips or climbs"
                )
            if "head" not in data:
                raise ValueError(f"edge ({layer}, {query}) -> ({below}, {key}) lacks the attribute 'head'")
            rows.append((layer, data["head"], query, key))
            weights.append(data.get("weight"))
        weighted = graph.graph.get("weighted", bool(rows) and all(w is not None for w in weights))
        layers, heads, queries, keys = zip(*rows, strict=True) if rows else ((), (), (), ())
        return cls.from_edges(
            graph.graph["n_layers"],
            graph.graph["n_heads"],
            graph.graph["n_tokens"],
            layers,
            heads,
            queries,
            keys,
            weight=np.array(weights, dtype=float) if weighted else None,
            n_context=graph.graph.get("n_context"),
            causal=graph.graph.get("causal", True),
        )


_EDGE = ("layer", "head", "query", "key")


def _node(node: Any) -> tuple[int, int]:
    if not isinstance(node, tuple) or len(node) != 2 or not isinstance(node[0], int | np.integer):
        raise ValueError(f"graph is not layered: node {node!r} is no pair (layer, position)")
    return node


def _integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be a list of integers, got {array.ndim} axes")
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers, got {array.dtype}")
    return array.astype(np.int64)


def _weights(values: ArrayLike, n_edges: int) -> NDArray[np.float32]:
    array = np.asarray(values, dtype=np.float32)
    if array.shape != (n_edges,):
        raise ValueError(f"weight must have one entry for each of the {n_edges} edges, got {array.shape}")
    bad = ~np.isfinite(array) | (array < 0)
    if bad.any():
        raise ValueError(f"weight must be finite and not negative, got {array[bad][0]}")
    return array


def _check_edges(columns: list[NDArray[np.int64]], sizes: tuple[int, int, int], causal: bool) -> None:
    layer, head, query, key = columns
    n_layers, n_heads, n_tokens = sizes
    ranges = ((1, n_layers), (0, n_heads - 1), (0, n_tokens - 1), (0, n_tokens - 1))
    for name, column, (low, high) in zip(_EDGE, columns, ranges, strict=True):
        outside = (column < low) | (column > high)
        if outside.any():
            e = int(np.argmax(outside))
            raise ValueError(f"edge {e} has {name} {column[e]}, outside {low}..{high}")
    if causal and (key > query).any():
        e = int(np.argmax(key > query))
        raise ValueError(
            f"edge {e} (layer {layer[e]}, head {head[e]}) reads key {key[e]} after its query {query[e]}; "
            "pass causal=False to allow that"
        )
