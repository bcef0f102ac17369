"""How the attention of one trace looks, in numbers: by distance, by popularity, by layer; slots that act alike."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from routegraph import attention
from routegraph.graph import TokenGraph
from routegraph.stats.bootstrap import resample_weights
from routegraph.stats.intervals import Curve, listed
from routegraph.theory import ger as theory
from routegraph.trace import Trace

#: Positions counted as attention sinks.
N_SINK = 4
#: Queries this early have too short a past to tell how far back they read.
FIRST_QUERY = 32
#: Points of the Lorenz curves.
FRACTIONS = np.linspace(0, 1, 101)


class Means(NamedTuple):
    """Means over prompts with their standard errors, float64[...] each; NaN errors for a single prompt."""

    mean: Curve
    stderr: Curve

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"mean": listed(np.ravel(self.mean)), "stderr": listed(np.ravel(self.stderr))}


def sink_share(graph: TokenGraph, n_sink: int = N_SINK) -> float:
    """Return the share of a graph's attention mass that goes to its first positions; NaN without late queries."""
    _, _, query, key = graph.edges()
    assert graph.weight is not None
    weight = np.where(query >= FIRST_QUERY, graph.weight, 0.0)
    return float(weight[key < n_sink].sum() / weight.sum()) if weight.any() else np.nan


def by_distance(graph: TokenGraph, n_sink: int = N_SINK) -> Curve:
    """Return the shares of attention mass beyond the sink by octave of distance, float64[n_bins].

    Queries from position 32 on only; NaN where there are none.
    """
    _, _, query, key = graph.edges()
    used = (query >= FIRST_QUERY) & (key >= n_sink)
    assert graph.weight is not None
    octave = np.log2(query[used] - key[used] + 1).astype(np.int64)
    mass = np.bincount(octave, graph.weight[used], minlength=int(np.log2(graph.n_tokens)) + 1)
    return np.asarray(mass / mass.sum()) if mass.any() else np.full(len(mass), np.nan)


def lorenz(graph: TokenGraph, skip_first: int = 0) -> Curve:
    """Return the share of mass that the most attended fraction of rows receives, float64[101].

    Mean over (layer, KV head); a slot that nothing reads is left out. The first `skip_first` positions do not count.
    """
    layer, head, _, key = graph.edges()
    group = (layer - 1) * graph.n_heads + head
    n = graph.n_tokens
    received = np.bincount(group * n + key, graph.weight, minlength=graph.n_layers * graph.n_heads * n)
    rows = np.sort(received.reshape(-1, n)[:, skip_first:], axis=1)[:, ::-1]
    rows = rows[rows.sum(axis=1) > 0]
    shares = np.cumsum(rows, axis=1) / rows.sum(axis=1, keepdims=True)
    whole = np.concatenate([[0.0], shares.mean(axis=0)])
    return np.asarray(np.interp(FRACTIONS, np.linspace(0, 1, len(whole)), whole))


def gini(curve: Curve) -> float:
    """Return the Gini coefficient of a Lorenz curve that starts with the most attended rows."""
    return float(2 * np.trapezoid(curve, FRACTIONS) - 1)


def correlation_by_distance(scores: Curve, n_heads: int) -> Curve:
    """Return the mean correlation of slots d layers apart, float64[n_layers]; NaN at 0 for a single head.

    scores : float64[n_layers * n_heads, n_tokens], normal scores.
    """
    correlation = theory.slot_correlation([scores])
    layer = np.arange(len(correlation)) // n_heads
    apart = np.abs(layer[:, None] - layer)
    off = ~np.eye(len(correlation), dtype=bool)
    counts = np.bincount(apart[off], minlength=layer[-1] + 1)
    total = np.bincount(apart[off], correlation[off], minlength=layer[-1] + 1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def effective_slots(gone_everywhere: Curve, gone: Curve, resamples: int = 400, seed: int = 0) -> Means:
    """Return ln GER / ln p of mean curves, float64[n_ratios], with bootstrap standard errors over prompts.

    gone_everywhere, gone : float64[n_prompts, n_ratios]. The error is NaN for a single prompt, or where resamples
    leave the value undefined.
    """
    rows = len(gone)
    value = theory.effective_slots(gone_everywhere.mean(axis=0), gone.mean(axis=0))
    if rows < 2:
        return Means(value, np.full(len(value), np.nan))
    drawn = resample_weights(rows, resamples, np.random.default_rng(seed))[1:]
    return Means(value, theory.effective_slots(drawn @ gone_everywhere, drawn @ gone).std(axis=0))


def by_layer(trace: Trace) -> dict[str, Curve]:
    """Return consensus and agreement of each layer, with and without the sink, float64[n_layers] each."""
    found = {}
    for suffix, tops in (("", trace.tops), (" without sink", trace.tops_without_sink)):
        assert tops is not None
        heads_last = np.moveaxis(tops, 1, -1)
        found[f"consensus{suffix}"] = np.nanmean(attention.consensus(heads_last), axis=1)
        found[f"agreement{suffix}"] = np.nanmean(attention.agreement(heads_last), axis=1)
    return found


def slope(curve: Curve) -> float:
    """Return the least-squares slope of a curve over relative depth; 0 for a single layer."""
    depth = np.linspace(0, 1, len(curve)) - 0.5
    return float(depth @ curve / (depth @ depth)) if len(curve) > 1 else 0.0
