"""Keep the prefill apart, and cut what was decoded (SCOPE, arXiv 2412.13649)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph.kernels.decoding import lowest_now
from routegraph.sim.decoding.policies.base import decoding_policy
from routegraph.sim.decoding.policies.h2o import recent_rows
from routegraph.sim.decoding.slot import Slot

STRATEGIES = ("slide", "adaptive", "discontinuous")


def room(slot: Slot, recent: float, strategy: str) -> NDArray[np.int64]:
    """Return the most decoded rows that may be left after each step, int64[n_steps]; n_steps where nothing is cut.

    Raises
    ------
    ValueError
        If the strategy is unknown or does not go with the interval, or recent is not in [0, 1).
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}; choose from: {', '.join(STRATEGIES)}")
    if strategy == "discontinuous" and slot.interval != 1:
        raise ValueError(
            f"the strategy 'discontinuous' cuts at steps of its own: interval must be 1, got {slot.interval}"
        )
    local = recent_rows(slot, recent)
    heavy = slot.budget - local
    steps = np.arange(1, slot.n_steps + 1)
    most = np.full(slot.n_steps, slot.budget)
    cut = steps % slot.interval == 0
    if strategy != "slide" and slot.n_steps > slot.budget:
        grown = np.maximum(0, steps - local) * heavy // (slot.n_steps - local)
        most = local + grown
        if strategy == "discontinuous":
            cut &= np.diff(grown, prepend=0) > 0
    return np.where(cut, np.maximum(most, 1), slot.n_steps)


@decoding_policy("scope", apart=True)
def scope(slot: Slot, *, recent: float = 0.25, strategy: str = "slide") -> NDArray[np.int32]:
    """Never evict the prefill; of the decoded rows keep the latest and those the last query looks at most.

    The budget counts decoded rows only: the prefill stands for what a method of prefill has left of a prompt. `recent`
    is its share for the latest rows (256 of 1,024 in the authors' code).

    Raises
    ------
    ValueError
        If the strategy is unknown, or recent is not in [0, 1).

    Notes
    -----
    With b2 = int(budget recent) latest rows and b1 = budget - b2 others, of n_steps = T steps:

    - slide: b1 + b2 rows from the start;
    - adaptive: b2 rows, and one more every (T - b2)/b1 steps, so that b1 + b2 are reached at the end;
    - discontinuous: the same room, but rows are chosen only at the steps at which it grows.

    As in figure 3 of the paper and the authors' code. Where T is at most the budget nothing need ever be cut.
    """
    capacity = np.full(slot.n_rows, slot.n_rows)
    capacity[slot.n_prefill :] = slot.n_prefill + room(slot, recent, strategy)
    window = recent_rows(slot, recent)
    found: NDArray[np.int32] = lowest_now(
        slot.key,
        slot.layer,
        slot.head,
        capacity,
        slot.n_prefill,
        slot.n_prefill,
        window,
        *slot.attention.model,
    )
    return found
