"""Evict what the last query looks at least (TOVA, arXiv 2401.06104)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph.kernels.decoding import lowest_now
from routegraph.sim.decoding.policies.base import decoding_policy
from routegraph.sim.decoding.slot import Slot


@decoding_policy("tova")
def tova(slot: Slot, *, window: int = 1) -> NDArray[np.int32]:
    """Evict the rows with the least attention of the last query; the latest `window` rows stay.

    TOVA has no window; kvpress's TOVAPress keeps the last row, which is window=1.

    Raises
    ------
    ValueError
        If the window is negative or leaves no room in the budget.
    """
    if window < 0:
        raise ValueError(f"window must be at least 0, got {window}")
    slot.check_protected(window, "tova", f"a window of {window}", least=0)
    found: NDArray[np.int32] = lowest_now(
        slot.key, slot.layer, slot.head, slot.capacity(), slot.n_prefill, 0, window, *slot.attention.model
    )
    return found
