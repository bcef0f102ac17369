"""Reads resampled from the graphs of a real model: how often, how far, and to which popular tokens."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from routegraph.graph import TokenGraph
from routegraph.kernels.rng import below, stream
from routegraph.kernels.rng import uniform as draw_uniform
from routegraph.sim.ensembles.base import Edges, ensemble, pick_between, slot_type
from routegraph.trace import Trace

#: Positions counted as attention sinks.
N_SINK = 4
#: Queries this early have too short a past to tell where they read.
_FIRST_QUERY = 32


@dataclass(frozen=True, eq=False)
class ReadStatistics:
    """Where the heads of a real model read, pooled over queries and prompts.

    Distances are counted in octaves: bin b holds distances 2**b - 1 .. 2**(b + 1) - 2.

    Attributes
    ----------
    degrees : int64[n_layers, n_heads, n_quantiles]
        Quantiles of the number of reads of a (layer, KV head, token) of weight above eps.
    to_sink : float64[n_layers, n_heads]
        Share of those reads that goes to the first N_SINK positions.
    octaves : float64[n_layers, n_heads, n_bins]
        Shares of the octaves of distance among the others; sum to 1.
    popularity : float64[n_samples]
        Reads of a token relative to what the distances of the reads alone would give it, sampled over
        tokens; mean 1.
    """

    degrees: NDArray[np.int64]
    to_sink: NDArray[np.float64]
    octaves: NDArray[np.float64]
    popularity: NDArray[np.float64]


def read_statistics(graphs: list[TokenGraph], eps: float = 0.02) -> ReadStatistics:
    """Measure where the heads of real graphs read.

    Parameters
    ----------
    graphs : list of TokenGraph
        Weighted graphs of one model, from traces.
    eps : float
        Only edges of weight above eps count as reads, in [0, 1).

    Raises
    ------
    ValueError
        If there is no graph, or no edge is left.
    """
    if not graphs:
        raise ValueError("the traces hold no graphs; extract them with --graphs")
    if not 0 <= eps < 1:
        raise ValueError(f"eps must be in [0, 1), got {eps}")
    n_layers, n_heads = graphs[0].n_layers, graphs[0].n_heads
    n_bins = int(np.log2(max(graph.n_tokens for graph in graphs))) + 1
    groups = n_layers * n_heads
    counts: list[list[NDArray[np.int64]]] = [[] for _ in range(groups)]
    sinks, totals = np.zeros(groups), np.zeros(groups)
    octaves = np.zeros((groups, n_bins))
    kept = []
    for graph in graphs:
        layer, head, query, key = graph.edges()
        assert graph.weight is not None
        used = (graph.weight > eps) & (query >= _FIRST_QUERY)
        group, query, key = ((layer - 1) * n_heads + head)[used], query[used], key[used]
        rows = np.bincount(group * graph.n_tokens + query, minlength=groups * graph.n_tokens)
        for g, row in enumerate(rows.reshape(groups, -1)):
            counts[g].append(row[_FIRST_QUERY:])
        sink = key < N_SINK
        sinks += np.bincount(group[sink], minlength=groups)
        totals += np.bincount(group, minlength=groups)
        group, query, key = group[~sink], query[~sink], key[~sink]
        octave = np.log2(query - key + 1).astype(np.int64)
        octaves += np.bincount(group * n_bins + octave, minlength=groups * n_bins).reshape(groups, n_bins)
        kept.append((graph.n_tokens, group, query, key))
    if not totals.any():
        raise ValueError(f"no edge of the traces has a weight above eps = {eps}")
    quantiles = (np.arange(32) + 0.5) / 32
    degrees = [np.quantile(np.concatenate(c), quantiles, method="nearest") for c in counts]
    octaves = (octaves + 1e-12) / (octaves + 1e-12).sum(axis=1, keepdims=True)
    popularity = np.concatenate([_popularity(octaves, *reads) for reads in kept])
    sampled = np.clip(np.quantile(popularity, (np.arange(256) + 0.5) / 256), 1e-3, None)
    return ReadStatistics(
        degrees=np.array(degrees, dtype=np.int64).reshape(n_layers, n_heads, -1),
        to_sink=(sinks / np.maximum(totals, 1)).reshape(n_layers, n_heads),
        octaves=((octaves + 1e-12) / (octaves + 1e-12).sum(axis=1, keepdims=True)).reshape(
            n_layers, n_heads, -1
        ),
        popularity=sampled / sampled.mean(),
    )


def _popularity(
    octaves: NDArray[np.float64],
    n: int,
    group: NDArray[np.int64],
    query: NDArray[np.int64],
    key: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return how often each token is read, relative to what the distances of the reads alone would give it."""
    octave = np.log2(np.arange(1, n + 1)).astype(np.int64)
    reads = np.bincount(group * n + query, minlength=len(octaves) * n).reshape(-1, n)
    expected = np.zeros(n)
    for shares, row in zip(octaves, reads, strict=True):
        kernel = shares[octave] / 2.0**octave
        # A query spreads its reads over the distances that lead to a key after the sinks.
        room = np.concatenate([np.ones(N_SINK), np.cumsum(kernel)[: n - N_SINK]])
        expected += np.correlate(np.append(row / room, np.zeros(n - 1)), kernel, mode="valid")
    found = np.bincount(key, minlength=n)
    seen = (expected >= 1) & (np.arange(n) >= N_SINK)
    return np.asarray(found[seen] / expected[seen])


@lru_cache(maxsize=4)
def _load(path: str, modified: float, eps: float) -> ReadStatistics:
    del modified  # part of the cache key only
    return read_statistics([trace.graph for trace in Trace.load(path) if trace.graph is not None], eps)


@nb.njit(cache=True, nogil=True)
def _draw(
    key: Any,
    layer: int,
    degrees: NDArray[np.int64],
    to_sink: NDArray[np.float64],
    cumulative_octaves: NDArray[np.float64],
    cumulative: NDArray[np.float64],
    indptr: NDArray[np.int64],
    slots: NDArray[Any],
) -> None:
    n_tokens = len(indptr) - 1
    n_heads, n_quantiles = degrees.shape
    for query in range(n_tokens):
        e = indptr[query]
        for head in range(n_heads):
            numbers = stream(key, layer, head)
            degree = degrees[head, below(numbers, query, 0, n_quantiles)]
            reach = int(np.log2(query + 1))
            for draw in range(degree):
                first = draw_uniform(numbers, query, 3 * draw + 1)
                if first < to_sink[head] or query < N_SINK:
                    read = below(numbers, query, 3 * draw + 2, min(N_SINK, query + 1))
                else:
                    octave = pick_between(
                        cumulative_octaves[head], 0, reach, draw_uniform(numbers, query, 3 * draw + 2)
                    )
                    nearest, farthest = query - (1 << octave) + 1, max(0, query - (2 << octave) + 2)
                    read = pick_between(
                        cumulative, farthest, nearest, draw_uniform(numbers, query, 3 * draw + 3)
                    )
                slots[e] = read * n_heads + head
                e += 1


@nb.njit(cache=True, nogil=True)
def _count(key: Any, layer: int, degrees: NDArray[np.int64], indptr: NDArray[np.int64]) -> None:
    indptr[0] = 0
    n_heads, n_quantiles = degrees.shape
    for query in range(len(indptr) - 1):
        total = 0
        for head in range(n_heads):
            total += degrees[head, below(stream(key, layer, head), query, 0, n_quantiles)]
        indptr[query + 1] = indptr[query] + total


@ensemble("empirical")
def empirical(
    key: np.uint64,
    layer: int,
    *,
    n_tokens: int,
    n_heads: int,
    degree: int,
    trace: str = "",
    eps: float = 0.02,
    layers: int = 0,
) -> Edges:
    """Resample reads from the graphs in a trace file (extract --graphs): degree, sinks, distance, popularity.

    Simulated layer and head take after the real ones of the same number (heads repeat; the real layers are
    stretched over `layers` simulated ones, as many as the trace has by default). The number of reads is
    drawn from the row's own distribution of edges heavier than eps, times `degree`; each goes to a sink, or
    to a distance of the right octave and there to a token in proportion to its popularity, which is drawn
    anew for every simulated token. Distances beyond the traced lengths do not occur.

    Raises
    ------
    ValueError
        If no trace is named, it holds no graphs, or eps or layers is out of range.
    """
    if not trace:
        raise ValueError("ensemble 'empirical' needs a trace with graphs: --set trace=FILE")
    if layers < 0:
        raise ValueError(f"layers must not be negative, got {layers}")
    statistics = _load(trace, os.path.getmtime(trace) if os.path.exists(trace) else 0.0, float(eps))
    return resample_reads(
        statistics, key, layer, n_tokens=n_tokens, n_heads=n_heads, degree=degree, layers=layers
    )


def resample_reads(
    statistics: ReadStatistics,
    key: np.uint64,
    layer: int,
    *,
    n_tokens: int,
    n_heads: int,
    degree: int = 1,
    layers: int = 0,
) -> Edges:
    """Draw the reads of one layer from measured statistics; arguments as for `empirical`."""
    known = len(statistics.degrees)
    place = min(known - 1, (layer - 1) * known // (layers or known))
    heads = np.arange(n_heads) % statistics.degrees.shape[1]
    degrees = statistics.degrees[place][heads] * degree
    indptr = np.empty(n_tokens + 1, dtype=np.int64)
    _count(key, layer, degrees, indptr)
    slots = np.empty(indptr[-1], dtype=slot_type(n_tokens, n_heads))
    # Popularity belongs to tokens, not to layers: drawn as layer 0 of the edge key.
    chosen = np.random.default_rng(int(key)).integers(0, len(statistics.popularity), n_tokens)
    cumulative = np.cumsum(statistics.popularity[chosen])
    octaves = np.cumsum(statistics.octaves[place][heads], axis=1)
    _draw(key, layer, degrees, statistics.to_sink[place][heads], octaves, cumulative, indptr, slots)
    return Edges(indptr, slots)
