"""The ensemble registry and what all ensembles share."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from routegraph.graph import TokenGraph
from routegraph.registry import Registry

#: Registry of graph ensembles; `ensemble` is its decorator.
ensembles = ensemble = Registry("ensemble")


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


def regular(n_tokens: int, n_heads: int, degree: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return (indptr, empty slots[n_tokens, n_heads * degree]) where every query reads equally often."""
    width = n_heads * degree
    indptr = np.arange(n_tokens + 1, dtype=np.int64) * width
    return indptr, np.empty((n_tokens, width), dtype=slot_type(n_tokens, n_heads))


def draw_graph(
    name: str,
    key: np.uint64,
    *,
    n_layers: int,
    n_heads: int,
    n_tokens: int,
    n_context: int,
    degree: int,
    **parameters: Any,
) -> TokenGraph:
    """Return a whole graph of an ensemble, the one a simulation with the same key walks layer by layer."""
    ensembles.check_parameters(name, parameters)
    layers = [
        ensembles[name](key, layer, n_tokens=n_tokens, n_heads=n_heads, degree=degree, **parameters)
        for layer in range(1, n_layers + 1)
    ]
    starts = np.cumsum([0] + [len(edges.slots) for edges in layers])
    ends = [edges.indptr[1:] + start for edges, start in zip(layers, starts[:-1], strict=True)]
    return TokenGraph(
        n_layers,
        n_heads,
        n_tokens,
        n_context,
        True,
        np.concatenate([[0], *ends]).astype(np.int64),
        np.concatenate([edges.slots for edges in layers]),
    )
