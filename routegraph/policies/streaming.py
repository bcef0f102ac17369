"""Keep the sinks and the most recent rows (StreamingLLM)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from routegraph.policies.base import check_scores, policy
from routegraph.survival import Survival


@policy("streaming", scores=None, protects=("n_sink",), cut="the oldest rows first, but for the sinks")
def streaming(scores: ArrayLike, *, n_context: int, n_sink: int = 4) -> Survival:
    """Evict the oldest rows after the first n_sink; the sinks go last. Scores give the shape only.

    Nested, and the same in every slot, so a token is globally evicted as soon as it is evicted at all.

    Raises
    ------
    ValueError
        If n_sink is not in 0..n_context - 1.
    """
    n_layers, n_heads, _ = check_scores(scores, n_context).shape
    if not 0 <= n_sink < n_context:
        raise ValueError(f"n_sink must be in 0..{n_context - 1}, got {n_sink}")
    recent = np.arange(1, n_context - n_sink + 1)
    sinks = np.arange(n_context, n_context - n_sink, -1)
    drop = np.concatenate([sinks, recent]).astype(np.int32)
    return Survival(np.broadcast_to(drop, (n_layers, n_heads, n_context)))
