"""Keep the sinks and the most recent rows (StreamingLLM, arXiv 2309.17453)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph.sim.decoding.policies.base import decoding_policy
from routegraph.sim.decoding.slot import Slot


@decoding_policy("streaming", theory="recent")
def streaming(slot: Slot, *, n_sink: int = 4) -> NDArray[np.int32]:
    """Keep the first n_sink rows and the latest budget - n_sink; the same in every slot.

    Raises
    ------
    ValueError
        If n_sink is negative or fills the budget.

    Notes
    -----
    Row i dies at the first cut at or after the step at which budget - n_sink rows have come after it.
    """
    if n_sink < 0:
        raise ValueError(f"n_sink must be at least 0, got {n_sink}")
    slot.check_protected(n_sink, "streaming", f"{n_sink} sinks")
    rows = np.arange(slot.n_rows)
    late = np.maximum(rows - slot.n_prefill + 1 + slot.budget - n_sink, 1)
    death = -(-late // slot.interval) * slot.interval
    death[rows < n_sink] = slot.never
    found: NDArray[np.int32] = np.minimum(death, slot.never).astype(np.int32)
    return found
