"""Keep heavy hitters and recent rows (H2O, arXiv 2306.14048)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph.kernels.decoding import lowest_sum
from routegraph.sim.decoding.policies.base import decoding_policy
from routegraph.sim.decoding.slot import Slot


def recent_rows(slot: Slot, recent: float) -> int:
    """Return how many of a budget are for the latest rows, int(budget recent); ValueError unless in [0, 1)."""
    if not 0 <= recent < 1:
        raise ValueError(f"recent must be in [0, 1), got {recent}")
    return int(slot.budget * recent)


@decoding_policy("h2o")
def h2o(slot: Slot, *, recent: float = 0.5) -> NDArray[np.int32]:
    """Evict the rows with the least attention of all queries so far; a share `recent` of the budget is for the latest.

    Sums begin with the prefill. The paper gives half of the budget to either.

    Raises
    ------
    ValueError
        If recent is not in [0, 1).
    """
    window = recent_rows(slot, recent)
    found: NDArray[np.int32] = lowest_sum(
        slot.key, slot.layer, slot.head, slot.capacity(), slot.n_prefill, 0, window, *slot.attention.model
    )
    return found
