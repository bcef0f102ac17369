"""More rows for low layers, fewer for high ones (PyramidKV, arXiv 2406.02069)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from routegraph.policies.base import check_scores, eviction_order, policy, protect_recent
from routegraph.survival import Survival, check_ratio


@policy("pyramid", protects=("window",), cut="per head, more rows in low layers, the last ones kept")
def pyramid(scores: ArrayLike, *, n_context: int, ratio: float, window: int = 64, beta: int = 20) -> Survival:
    """Evict like `snapkv`, with a budget that falls linearly from the first layer to the last.

    Not nested: where the smallest budget would fall below `window`, kvpress's PyramidKVPress gives every layer
    the same budget, and high layers get rows back. It is therefore asked for one ratio at a time.

    Parameters
    ----------
    scores, n_context, window
        As for `snapkv`.
    ratio : float
        Compression ratio in [0, 1).
    beta : int
        Steepness of the pyramid, at least 1.

    Returns
    -------
    Survival
        With one step, at `ratio`: what is evicted there is dead from there on.

    Raises
    ------
    ValueError
        If ratio, window or beta is out of range.
    """
    array = check_scores(scores, n_context)
    asked = check_ratio(ratio)
    if beta < 1:
        raise ValueError(f"beta must be at least 1, got {beta}")
    order = eviction_order(protect_recent(array, window))
    kept = np.array(
        [layer_budget(n_context, asked, layer, len(array), window, beta) for layer in range(len(array))]
    )
    dead = order <= n_context - kept[:, None, None]
    return Survival(np.where(dead, 1, 2), np.array([asked]))


def layer_budget(n: int, ratio: float, layer: int, n_layers: int, window: int, beta: int) -> int:
    """Return the rows a layer (counted from 0) keeps, rounded as kvpress 0.5.5 rounds."""
    if ratio == 0:
        return n
    total = window + n * (1 - ratio) - window
    least = total / beta
    most = total * 2 - least
    if most >= n - window:
        most = n - window
        least = total * 2 - most
    if not n >= most >= least >= window:
        return max(1, round(n * (1 - ratio)))
    step = (most - least) / (n_layers - 1) if n_layers > 1 else 0.0
    return round(most - layer * step)
