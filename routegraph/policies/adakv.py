"""Let the heads of a layer compete for its rows (AdaKV, arXiv 2407.11550)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from routegraph.kernels.ranks import merge_with_safeguard
from routegraph.policies.base import check_scores, eviction_order, policy
from routegraph.survival import Survival


@policy("adakv", competes="layer", press="AdaKVPress", cut="over all heads of a layer")
def adakv(scores: ArrayLike, *, n_context: int, alpha_safeguard: float = 0.2) -> Survival:
    """Evict the lowest scores over all heads of a layer; each head keeps its best few.

    At level k, n_heads * k rows of a layer are gone, and every head keeps at least
    ``max(1, int((n_context - k) * alpha_safeguard))``, as kvpress's AdaKVPress does. Nested: a level asks
    for n_heads more rows while each safeguard shrinks by at most one, so nothing comes back.

    Raises
    ------
    ValueError
        If alpha_safeguard is not in [0, 1].
    """
    array = check_scores(scores, n_context)
    if not 0 <= alpha_safeguard <= 1:
        raise ValueError(f"alpha_safeguard must be in [0, 1], got {alpha_safeguard}")
    least = 1 if alpha_safeguard > 0 else 0
    safe = np.array([max(least, int((n_context - k) * alpha_safeguard)) for k in range(n_context + 1)])
    safe[n_context] = 0
    order = np.argsort(eviction_order(array), axis=-1)
    return Survival(
        np.stack([merge_with_safeguard(*layer, safe) for layer in zip(array, order, strict=True)])
    )
