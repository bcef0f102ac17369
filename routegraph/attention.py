"""Measures that use attention weights: widest path and rollout over surviving slots, consensus of heads."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.graph import TokenGraph
from routegraph.kernels import weights
from routegraph.routes import check_prune, check_sizes, unsigned
from routegraph.survival import Survival, check_positions


def widest_path(
    graph: TokenGraph,
    survival: Survival,
    sources: ArrayLike,
    ratio: float,
    prune: str = "columns",
    residual: bool = True,
) -> NDArray[np.float32]:
    """Return the width of the widest surviving route from the sources to each token.

    Parameters
    ----------
    graph : TokenGraph
        With weights.
    survival, sources, prune, residual
        As for `reach_thresholds`.
    ratio : float
        Compression ratio in [0, 1).

    Returns
    -------
    float32[n_tokens]
        Smallest attention weight on the route, the route chosen to make it large; residual edges do not
        narrow it. 0 where no route survives, infinity where no read is needed.

    Raises
    ------
    ValueError
        If the graph has no weights, sizes differ, or an argument is out of range.
    """
    weight = _weights_of(graph)
    check_sizes(graph, survival)
    check_prune(prune)
    starts = check_positions(sources, graph.n_tokens, "source")
    level = survival.level(ratio)
    width: NDArray[np.float32] = weights.widest(
        graph.indptr, unsigned(graph.slot), weight, survival.drop, starts, level, prune == "columns", residual
    )
    return width


def rollout(
    graph: TokenGraph,
    survival: Survival,
    source: int,
    ratio: float,
    prune: str = "columns",
    share: float = 0.5,
    renormalise: bool = False,
) -> NDArray[np.float64]:
    """Return the attention mass that rolls from the source to each token over surviving slots.

    Parameters
    ----------
    graph, survival, ratio, prune
        As for `widest_path`.
    source : int
        Position at the top layer that starts with mass 1.
    share : float
        Mass a token keeps for itself in each layer, in [0, 1]: the residual stream.
    renormalise : bool
        Whether what pointed at dead slots is spread over the surviving ones (the paper's compressed graph)
        or lost (default: then the mass only falls with the ratio).

    Returns
    -------
    float64[n_tokens]

    Notes
    -----
    Attention rollout (Abnar and Zuidema 2020) on the graph's edges, heads averaged.
    """
    weight = _weights_of(graph)
    check_sizes(graph, survival)
    check_prune(prune)
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    start = np.zeros(graph.n_tokens)
    start[check_positions(source, graph.n_tokens, "source")] = 1.0
    level = survival.level(ratio)
    mass: NDArray[np.float64] = weights.roll(
        graph.indptr, graph.slot, weight, survival.drop, start, level, prune == "columns", share, renormalise
    )
    return mass


def top_keys(
    reads: NDArray[np.integer], alive: NDArray[np.bool_] | None = None, skip_first: int = 0
) -> NDArray[np.int64]:
    """Return the most attended key of each query head, -1 where none is left.

    Parameters
    ----------
    reads : int[..., n_reads]
        Keys a query head reads, the heaviest first.
    alive : bool[..., n_reads], optional
        Which of the reads survive; all by default.
    skip_first : int
        Leave out the first positions of the context (4: without the attention sinks).
    """
    usable = reads >= skip_first
    if alive is not None:
        usable &= alive
    first = np.take_along_axis(reads, usable.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return np.where(usable.any(axis=-1), first, -1).astype(np.int64)


def consensus(tops: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the number of distinct top keys over the heads, divided by the number of heads.

    Parameters
    ----------
    tops : int[..., n_query_heads]
        Top key of each query head (`top_keys`); heads without one (-1) are left out.

    Returns
    -------
    float64[...]
        In (0, 1], low when the heads agree; NaN where no head has a top key. arXiv 2603.01426, Consensus(l).
    """
    ordered = np.sort(tops, axis=-1)
    new = np.diff(ordered, axis=-1, prepend=-1) != 0
    heads = (tops >= 0).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(
            np.where(heads > 0, (new & (ordered >= 0)).sum(axis=-1) / np.maximum(heads, 1), np.nan)
        )


def agreement(tops: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the largest fraction of heads that share one top key (rho_l of arXiv 2603.01426).

    Parameters
    ----------
    tops : int[..., n_query_heads]
        As for `consensus`; heads without a top key are left out.

    Returns
    -------
    float64[...]
        In (0, 1], high when the heads agree; NaN where no head has a top key.
    """
    same = (tops[..., :, None] == tops[..., None, :]) & (tops >= 0)[..., None]
    heads = (tops >= 0).sum(axis=-1)
    largest = same.sum(axis=-1).max(axis=-1)
    return np.asarray(np.where(heads > 0, largest / np.maximum(heads, 1), np.nan))


def _weights_of(graph: TokenGraph) -> NDArray[np.float32]:
    if graph.weight is None:
        raise ValueError("the graph has no attention weights")
    return graph.weight
