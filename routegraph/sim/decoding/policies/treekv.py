"""Thin out neighbours from the left to the right, again and again (TreeKV, arXiv 2501.04987)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph.kernels.decoding import lower_neighbour
from routegraph.sim.decoding.policies.base import decoding_policy
from routegraph.sim.decoding.policies.h2o import recent_rows
from routegraph.sim.decoding.slot import Slot


@decoding_policy("treekv")
def treekv(slot: Slot, *, n_sink: int = 4, recent: float = 0.5) -> NDArray[np.int32]:
    """Evict the lower of two neighbours by mean attention; the pair moves on to the right, a row at a time.

    What is left grows thinner to the left: every passage of the pair takes about half. Sinks, and the share `recent` of
    the budget, are left alone; the paper's cache of 1,024 has 4 and 508.

    Raises
    ------
    ValueError
        If recent is not in [0, 1), or n_sink is negative or leaves no room in the budget.

    Notes
    -----
    The paper's eviction scope is the places (idx, idx + 1), idx = 1..c in turn, one a step; the mean is the attention
    given so far over the number of queries, the row's own included. Of equal ones the left goes. Sums begin with the
    prefill, which is cut row by row like all else (the paper's prefill works in blocks).
    """
    if n_sink < 0:
        raise ValueError(f"n_sink must be at least 0, got {n_sink}")
    window = recent_rows(slot, recent)
    slot.check_protected(n_sink + window, "treekv", f"{n_sink} sinks and {window} recent rows")
    found: NDArray[np.int32] = lower_neighbour(
        slot.key,
        slot.layer,
        slot.head,
        slot.capacity(),
        slot.n_prefill,
        n_sink,
        window,
        *slot.attention.model,
    )
    return found
