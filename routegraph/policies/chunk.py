"""Cut every chunk of the context by the same ratio (FINCH's scheme; kvpress's ChunkPress)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from routegraph.policies.base import check_scores, eviction_order, policy
from routegraph.survival import Survival, eviction_ratios


@policy("chunk", scores="chunks", press="ChunkPress", cut="per head, every chunk by itself")
def chunk(scores: ArrayLike, *, n_context: int, chunk_length: int = 64) -> Survival:
    """Evict the lowest scores of each chunk of chunk_length rows; every chunk keeps at least one.

    Nested. The kept set changes at other ratios in a shorter last chunk, so the levels are given by
    `steps`. ChunkPress scores each chunk by itself: give it scores made that way.

    Raises
    ------
    ValueError
        If chunk_length is below 1.
    """
    array = check_scores(scores, n_context)
    if chunk_length < 1:
        raise ValueError(f"chunk_length must be at least 1, got {chunk_length}")
    starts = range(0, n_context, chunk_length)
    ratios = {n: eviction_ratios(n) for n in {min(chunk_length, n_context - start) for start in starts}}
    steps = np.unique(np.concatenate(list(ratios.values())))
    drop = np.empty(array.shape, dtype=np.int32)
    for start in starts:
        rows = slice(start, start + chunk_length)
        ranks = eviction_order(array[..., rows])
        levels = np.append(np.searchsorted(steps, ratios[ranks.shape[-1]]), len(steps)) + 1
        drop[..., rows] = levels[ranks - 1]
    return Survival(drop, steps)
