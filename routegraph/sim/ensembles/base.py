"""The ensemble registry and what all ensembles share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from routegraph.graph import TokenGraph
from routegraph.kernels.rng import below, stream, uniform
from routegraph.registry import Registry

#: Registry of graph ensembles; `ensemble` is its decorator.
ensembles = ensemble = Registry("ensemble")

#: Added to the head number to name the stream of coins that decide whether a head follows head 0.
_COINS = 1 << 20


class Edges(NamedTuple):
    """Read edges of one layer in CSR by query.

    Attributes
    ----------
    indptr : int64[n_tokens + 1]
        Edges of query i are indptr[i]..indptr[i+1]-1.
    slots : int[n_edges]
        key * n_heads + head.
    """

    indptr: NDArray[np.int64]
    slots: NDArray[Any]


def slot_type(n_tokens: int, n_heads: int) -> type[np.signedinteger[Any]]:
    """Return the integer type that holds every slot number."""
    return np.int32 if n_tokens * n_heads < 2**31 else np.int64


def regular(n_tokens: int, n_heads: int, degree: int) -> Edges:
    """Return edges where every query reads `degree` keys in every head, in the order [head, draw], unfilled."""
    width = n_heads * degree
    indptr = np.arange(n_tokens + 1, dtype=np.int64) * width
    return Edges(indptr, np.empty(n_tokens * width, dtype=slot_type(n_tokens, n_heads)))


@nb.njit(cache=True, nogil=True)
def draw_recent(key, layer, n_heads, degree, width, slots):  # type: ignore[no-untyped-def]
    """Fill slots with reads uniform on the last `width` positions up to the query."""
    n_tokens = len(slots) // (n_heads * degree)
    for head in range(n_heads):
        numbers = stream(key, layer, head)
        for query in range(n_tokens):
            span = min(query + 1, width)
            for draw in range(degree):
                read = query - below(numbers, query, draw, span)
                slots[(query * n_heads + head) * degree + draw] = read * n_heads + head


@nb.njit(inline="always", cache=True)
def pick_between(cumulative, first, last, u):  # type: ignore[no-untyped-def]
    """Return an index of first..last drawn in proportion to its weight, from u in [0, 1).

    `cumulative` are running sums of the weights; a `last` beyond its end means the end.
    """
    low, high = first, min(last, len(cumulative) - 1)
    start = cumulative[first - 1] if first > 0 else 0.0
    target = start + u * (cumulative[high] - start)
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > target:
            high = middle
        else:
            low = middle + 1
    return low


@nb.njit(cache=True, nogil=True)
def follow_head_0(key, layer, n_heads, degree, agreement, slots):  # type: ignore[no-untyped-def]
    """Let every read of heads 1.. be replaced, with chance `agreement`, by head 0's read of the same draw."""
    n_tokens = len(slots) // (n_heads * degree)
    for head in range(1, n_heads):
        coins = stream(key, layer, _COINS + head)
        for query in range(n_tokens):
            row = query * n_heads * degree
            for draw in range(degree):
                if uniform(coins, query, draw) < agreement:
                    read = slots[row + draw] // n_heads
                    slots[row + head * degree + draw] = read * n_heads + head


def draw_weights(n_edges: int, degree: int) -> NDArray[np.float32]:
    """Return the attention weight of each edge of a regular layer, float32[n_edges].

    The k-th of the `degree` reads of a query head carries a share of 1 / k; the shares of a head sum to 1.
    """
    share = 1 / np.arange(1, degree + 1)
    return np.tile((share / share.sum()).astype(np.float32), n_edges // degree)


def join(
    layers: list[Edges],
    weights: list[NDArray[np.float32]] | None,
    n_heads: int,
    n_tokens: int,
    n_context: int,
    causal: bool = True,
) -> TokenGraph:
    """Return the graph whose layers 1, 2, ... have the given edges."""
    starts = np.cumsum([0] + [len(edges.slots) for edges in layers])
    ends = [edges.indptr[1:] + start for edges, start in zip(layers, starts[:-1], strict=True)]
    return TokenGraph(
        n_layers=len(layers),
        n_heads=n_heads,
        n_tokens=n_tokens,
        n_context=n_context,
        causal=causal,
        indptr=np.concatenate([[0], *ends]).astype(np.int64),
        slot=np.concatenate([edges.slots for edges in layers]),
        weight=None if weights is None else np.concatenate(weights),
    )
