"""Attention as it is seen in trained models: sinks, recency, and a few heavy hitters."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from routegraph.kernels.ranks import permutation
from routegraph.kernels.rng import below, stream
from routegraph.kernels.rng import uniform as draw_uniform
from routegraph.sim.ensembles.base import Edges, ensemble, pick_between, regular


@nb.njit(cache=True, nogil=True)
def _draw(
    key: Any,
    layer: int,
    n_heads: int,
    degree: int,
    n_sink: int,
    recent: int,
    shares: tuple[float, float],
    cumulative: NDArray[Any],
    slots: NDArray[Any],
) -> None:
    n_tokens = len(slots) // (n_heads * degree)
    to_sink, to_recent = shares
    for head in range(n_heads):
        numbers = stream(key, layer, head)
        for query in range(n_tokens):
            for draw in range(degree):
                kind = draw_uniform(numbers, query, 2 * draw)
                if kind < to_sink:
                    read = below(numbers, query, 2 * draw + 1, min(n_sink, query + 1))
                elif kind < to_sink + to_recent:
                    read = query - below(numbers, query, 2 * draw + 1, min(recent, query + 1))
                else:
                    read = pick_between(cumulative, 0, query, draw_uniform(numbers, query, 2 * draw + 1))
                slots[(query * n_heads + head) * degree + draw] = read * n_heads + head


def popularity(key: np.uint64, n_tokens: int, exponent: float) -> NDArray[np.float64]:
    """Return Zipf weights rank**-exponent, the ranks a random order of the tokens, float64[n_tokens].

    Heavy hitters are tokens: every layer and head shares the order (drawn as layer 0 of the edge key).
    """
    rank = np.empty(n_tokens, dtype=np.int32)
    permutation(key, 0, 0, rank)
    return np.asarray(rank**-exponent)


@ensemble("sink")
def sink(
    key: np.uint64,
    layer: int,
    *,
    n_tokens: int,
    n_heads: int,
    degree: int,
    n_sink: int = 4,
    to_sink: float = 0.4,
    recent: int = 32,
    to_recent: float = 0.3,
    exponent: float = 1.0,
) -> Edges:
    """Send reads to the first n_sink tokens, to the last `recent` ones, or to Zipf-popular heavy hitters.

    Each read picks one of the three with chances to_sink, to_recent and the rest; the exponent is Zipf's.

    Raises
    ------
    ValueError
        If n_sink or recent is below 1, a share or the exponent negative, or the shares exceed 1 together.
    """
    if n_sink < 1 or recent < 1:
        raise ValueError(f"n_sink and recent must be at least 1, got {n_sink} and {recent}")
    if min(to_sink, to_recent) < 0 or to_sink + to_recent > 1:
        raise ValueError(f"to_sink and to_recent must be shares of 1, got {to_sink} and {to_recent}")
    if exponent < 0:
        raise ValueError(f"exponent must not be negative, got {exponent}")
    edges = regular(n_tokens, n_heads, degree)
    cumulative = np.cumsum(popularity(key, n_tokens, float(exponent)))
    shares = (float(to_sink), float(to_recent))
    _draw(key, layer, n_heads, degree, n_sink, recent, shares, cumulative, edges.slots)
    return edges
