"""Score fields: the random scores by which simulated slots are evicted.

All fields are Gaussian and share one shape: the score of token t in slot (l, h) is

    sqrt(c_l) y[l, t] + sqrt(1 - c_l) e[l, h, t],    y[l, t] = sqrt(f) g[t] + sqrt(1 - f) a[l, t]

with a stationary AR(1) in depth of correlation exp(-1/xi) a layer. Two heads of layer l correlate by c_l,
heads d layers apart by sqrt(c_l c_l') (f + (1 - f) exp(-d/xi)). f = 1 is the one-factor model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import policies
from routegraph.theory.ger import normal_scores, slot_correlation
from routegraph.trace import Trace

Scores = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Field:
    """A score field.

    Attributes
    ----------
    in_layer : float64[n_layers]
        c_l, correlation of two heads of one layer.
    floor : float
        f, share of the common score that all layers have.
    length : float
        xi, layers over which the rest decays.
    """

    in_layer: NDArray[np.float64]
    floor: float = 1.0
    length: float = 10.0

    def correlation(self, n_heads: int) -> NDArray[np.float64]:
        """Return the correlation of all slots' scores, float64[n_layers * n_heads, n_layers * n_heads]."""
        n_layers = len(self.in_layer)
        distance = np.abs(np.subtract.outer(np.arange(n_layers), np.arange(n_layers)))
        shared = self.floor + (1 - self.floor) * np.exp(-distance / self.length)
        loading = np.sqrt(self.in_layer)
        full = np.kron(np.outer(loading, loading) * shared, np.ones((n_heads, n_heads)))
        np.fill_diagonal(full, 1.0)
        return np.asarray(full, dtype=np.float64)

    def draw(self, generator: np.random.Generator, n_heads: int, n_context: int) -> Scores:
        """Draw standard normal scores, float32[n_layers, n_heads, n_context]."""
        shape = (len(self.in_layer), n_heads, n_context)
        scores = generator.standard_normal(shape, dtype=np.float32)
        if not self.in_layer.any():
            return scores
        common = np.sqrt(self.floor) * generator.standard_normal(n_context, dtype=np.float32)
        if self.floor < 1:
            common = common + np.sqrt(1 - self.floor) * self._walk(generator, n_context)
        loading = self.in_layer[:, None, None]
        shared = np.broadcast_to(common, (len(self.in_layer), n_context))[:, None, :]
        return np.asarray(np.sqrt(loading) * shared + np.sqrt(1 - loading) * scores, dtype=np.float32)

    def _walk(self, generator: np.random.Generator, n_context: int) -> Scores:
        """Return a stationary AR(1) in depth, float32[n_layers, n_context]."""
        steps = generator.standard_normal((len(self.in_layer), n_context), dtype=np.float32)
        keep = np.exp(-1 / self.length)
        for layer in range(1, len(steps)):
            steps[layer] = keep * steps[layer - 1] + np.sqrt(1 - keep**2) * steps[layer]
        return steps


def fit_field(correlation: NDArray[np.float64], n_heads: int, n_layers: int | None = None) -> Field:
    """Return the field nearest to a measured correlation of slots.

    Parameters
    ----------
    correlation : float64[M, M]
        Correlation of the slots' normal scores, M = layers * n_heads, from `theory.ger.slot_correlation`.
    n_heads : int
        KV heads a layer.
    n_layers : int, optional
        Stretch the field over so many layers; as many as measured by default.

    Notes
    -----
    c_l is the mean correlation of the heads of layer l; floor and length are fitted by least squares to the
    mean correlation of layers d apart.
    """
    from scipy.optimize import least_squares

    measured = len(correlation) // n_heads
    blocks = correlation.reshape(measured, n_heads, measured, n_heads).mean(axis=(1, 3))
    own = np.diag(blocks)
    inside = (own * n_heads - 1) / (n_heads - 1) if n_heads > 1 else np.ones(measured)
    in_layer = np.clip(inside, 0, 1)
    distance = np.arange(1, measured)
    mean = np.array([np.diag(blocks, int(d)).mean() for d in distance])
    loading = np.sqrt(in_layer)
    scale = np.array([np.mean(loading[d:] * loading[:-d]) for d in distance])
    floor, length = 1.0, 10.0
    if measured > 2 and scale.all():
        count = np.sqrt(measured - distance)

        def residual(x: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(count * (scale * (x[0] + (1 - x[0]) * np.exp(-distance / x[1])) - mean))

        fitted = least_squares(residual, [0.3, measured / 4], bounds=([0, 0.1], [1, 10 * measured]))
        floor, length = (float(x) for x in fitted.x)
    if n_layers is not None and n_layers != measured:
        depth = np.linspace(0, 1, n_layers) if n_layers > 1 else np.zeros(1)
        in_layer = np.interp(depth, np.linspace(0, 1, measured), in_layer)
        length *= n_layers / measured
    return Field(in_layer, floor, length)


@lru_cache(maxsize=4)
def field_of_trace(path: str, n_layers: int) -> Field:
    """Return the field fitted to the scores in a trace file, stretched over n_layers.

    Protected rows (sinks) are left out.

    Raises
    ------
    ValueError
        If the file is no trace file.
    """
    traces = Trace.load(path)
    scorer = next(iter(traces[0].scores))
    scores = []
    for trace in traces:
        drop = policies.eviction_order(trace.scores[scorer]).reshape(-1, trace.n_context)
        scores.append(normal_scores(drop[:, ~trace.protected(scorer)]))
    return fit_field(slot_correlation(scores), traces[0].n_heads, n_layers)


def tie_to_attention(scores: Scores, reads: NDArray[Any], tie: float) -> Scores:
    """Mix scores with how often each slot is read by the graph.

    Parameters
    ----------
    scores : float32[n_layers, n_heads, n_context]
        Standard normal scores.
    reads : float[n_layers, n_heads, n_context]
        Reads of each slot, weighted or not.
    tie : float
        Correlation, in [0, 1], of the result with the normal scores of the reads.

    Returns
    -------
    float32[n_layers, n_heads, n_context]
        sqrt(tie^2) z(reads) + sqrt(1 - tie^2) scores.
    """
    from scipy.special import ndtri

    n = reads.shape[-1]
    order = np.argsort(np.argsort(reads, axis=-1, kind="stable"), axis=-1)
    return np.asarray(tie * ndtri((order + 0.5) / n) + np.sqrt(1 - tie**2) * scores, dtype=np.float32)
