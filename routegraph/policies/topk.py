"""Keep the rows with the highest scores, head by head."""

from __future__ import annotations

from numpy.typing import ArrayLike

from routegraph.policies.base import check_scores, eviction_order, policy
from routegraph.survival import Survival


@policy("topk", plain=True, press="", cut="per head")
def topk(scores: ArrayLike, *, n_context: int) -> Survival:
    """Evict the lowest scores of each (layer, head) first, as kvpress's ScorerPress does.

    Nested: the rows kept at a higher ratio are among those kept at a lower one.
    """
    return Survival(eviction_order(check_scores(scores, n_context)))
