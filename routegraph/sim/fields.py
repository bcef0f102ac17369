"""Score fields: the random scores by which simulated slots are evicted.

All fields are Gaussian and share one shape: the score of token t in slot (l, h) is

    sqrt(c_l) y[l, t] + sqrt(1 - c_l) e[l, h, t],    y[l, t] = sqrt(f) g[t] + sqrt(1 - f) a[l, t]

with a stationary AR(1) in depth of correlation exp(-1/xi) a layer. Two heads of layer l correlate by c_l,
heads d layers apart by sqrt(c_l c_l') (f + (1 - f) exp(-d/xi)). f = 1 is the one-factor model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
