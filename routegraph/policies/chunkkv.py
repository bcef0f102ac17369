"""Whole chunks live or die together (ChunkKV, arXiv 2502.00299)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from routegraph.policies.base import check_scores, eviction_order, policy
from routegraph.survival import Survival, eviction_ratios


@policy(
    "chunkkv",
    competes="layer",
    press="ChunkKVPress",
    cut="by whole chunks, all heads of a layer alike",
    ordinal=False,
)
def chunkkv(scores: ArrayLike, *, n_context: int, chunk_length: int = 20) -> Survival:
    """Evict whole chunks of chunk_length rows, the lowest mean score first, all heads of a layer alike.

    Nested. A chunk's score is the mean over its rows of the sum over heads, as in kvpress's ChunkKVPress; a
    shorter last chunk counts as one. A context shorter than one chunk is evicted row by row like `topk`.

    Raises
    ------
    ValueError
        If chunk_length is below 1.
    """
    array = check_scores(scores, n_context)
    if chunk_length < 1:
        raise ValueError(f"chunk_length must be at least 1, got {chunk_length}")
    if n_context < chunk_length:
        return Survival(eviction_order(array))
    starts = np.arange(0, n_context, chunk_length)
    lengths = np.diff(starts, append=n_context)
    chunk_scores = np.add.reduceat(array.sum(axis=1), starts, axis=-1) / lengths
    by_row = np.repeat(eviction_order(chunk_scores), lengths, axis=-1)
    # The best chunk is kept at every level.
    drop = np.where(by_row == len(starts), len(starts), by_row)
    return Survival(np.broadcast_to(drop[:, None], array.shape), eviction_ratios(len(starts)))
