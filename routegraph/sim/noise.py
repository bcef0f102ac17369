"""Reads of few bits: every logit of a weighted graph is off by a Gaussian number, and a read may go astray."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.graph import TokenGraph
from routegraph.kernels.noise import noisy_rows


@dataclass(frozen=True, eq=False)
class NoisyReads:
    """A graph after noise on its logits, and what that changed.

    Attributes
    ----------
    graph : TokenGraph
        The same edges, other weights: of each (layer, query, head) the sum is as before. Reach after noise is reach in
        the graph of those that are heavy enough, see `routegraph.graph.heavier`.
    moved : float64[n_rows]
        Share of the weight of each (layer, query, head) with reads that is read elsewhere, in [0, 1].
    astray : float64
        Share of these rows whose heaviest read is another one.
    """

    graph: TokenGraph
    moved: NDArray[np.float64]
    astray: float


def with_logit_noise(graph: TokenGraph, noise: ArrayLike, seed: int = 0) -> NoisyReads:
    """Put noise on the logit of every read edge.

    Parameters
    ----------
    graph : TokenGraph
        With attention weights. The reads of a (layer, query, KV head) share one softmax; query heads that are to have
        their own are heads of their own.
    noise : float, or float[n_layers, n_heads]
        Standard deviation of the noise on each logit, at least 0: see `routegraph.theory.noise.rounding_noise`, and
        what `routegraph noise` measures for the bits of a model.
    seed : int
        At least 0; the same seed gives the same noise.

    Raises
    ------
    ValueError
        If the graph has no weights, or the noise is negative, not finite or of another shape.
    """
    if graph.weight is None:
        raise ValueError("the graph has no attention weights, so its reads have no logits")
    sizes = np.asarray(noise, dtype=float)
    shape = (graph.n_layers, graph.n_heads)
    if sizes.shape not in ((), shape) or not np.isfinite(sizes).all() or (sizes < 0).any():
        raise ValueError(
            f"noise must be a number of at least 0, or one for each of {shape[0]} layers and {shape[1]} heads"
        )
    row = np.repeat(np.arange(len(graph.indptr) - 1), np.diff(graph.indptr))
    group = row * graph.n_heads + graph.slot % graph.n_heads
    order = np.argsort(group, kind="stable")
    found, first = np.unique(group[order], return_index=True)
    indptr = np.append(first, graph.n_edges).astype(np.int64)
    layers, heads = found // (graph.n_tokens * graph.n_heads), found % graph.n_heads
    weights = graph.weight[order].astype(float)
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    own = np.ascontiguousarray(np.broadcast_to(sizes, shape)[layers, heads])
    made, moved, stays = noisy_rows(indptr, weights, own, np.ones(len(weights), dtype=bool), key)
    new = np.empty(graph.n_edges, dtype=np.float32)
    new[order] = made
    astray = float(1 - stays.mean()) if len(stays) else 0.0
    return NoisyReads(replace(graph, weight=new), moved, astray)
