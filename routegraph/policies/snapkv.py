"""Protect the most recent rows, cut the rest by score (SnapKV, arXiv 2404.14469)."""

from __future__ import annotations

from numpy.typing import ArrayLike

from routegraph.policies.base import check_scores, eviction_order, policy, protect_recent
from routegraph.survival import Survival


@policy("snapkv", protects=("window",), cut="per head, the last rows kept")
def snapkv(scores: ArrayLike, *, n_context: int, window: int = 64) -> Survival:
    """Evict the lowest scores of each (layer, head) outside the last `window` rows; the window goes last.

    Nested: among the protected rows, which tie, the lowest position is kept longest. (kvpress lets topk break
    those ties as it likes, so its kept sets stop being nested once fewer than `window` rows are kept.)

    Raises
    ------
    ValueError
        If window is not in 0..n_context - 1.
    """
    return Survival(eviction_order(protect_recent(check_scores(scores, n_context), window)))
