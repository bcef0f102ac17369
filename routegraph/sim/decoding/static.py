"""Policies of a finished context, asked at every cut: what kvpress's DecodingPress does with any press that scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import policies
from routegraph.sim.decoding.attention import Cache, step_by_step
from routegraph.sim.decoding.slot import Slot
from routegraph.survival import ratio_keeping


def static(name: str) -> Callable[..., NDArray[np.int32]]:
    """Return a policy of `routegraph.policies` as one of decoding.

    At every cut it is given the rows that are there as a context of their own, scored by the attention of all queries
    since the last cut (those that a DecodingPress has in its buffer), and keeps `budget` of them.

    Raises
    ------
    ValueError
        If the policy works in chunks, or does not leave the same number of rows in every slot.
    """
    refused = f"policy {name!r} cannot be asked at every cut: it does not leave the same number of rows in every slot"
    if policies.declared(name).scores == "chunks":
        raise ValueError(refused)

    def check(**parameters: Any) -> None:
        scores = np.random.default_rng(0).random((3, 2, 512))
        left = policies.apply(name, scores, ratio=0.5, **parameters).alive(0.5).sum(axis=2)
        if np.any(left != 256):
            raise ValueError(refused)

    def decode(slot: Slot, **parameters: Any) -> NDArray[np.int32]:
        if (slot.layer, slot.head) == (1, 0):
            check(**parameters)

        def worth(cache: Cache) -> NDArray[np.float64]:
            n = len(cache.rows)
            ratio = ratio_keeping(n, slot.budget)
            survival = policies.apply(name, cache.recent[None, None], ratio=ratio, **parameters)
            alive = survival.alive(ratio)[0, 0]
            if alive.sum() != slot.budget:
                raise ValueError(f"{refused}: {alive.sum()} of {n} here, for {slot.budget}")
            kept: NDArray[np.float64] = alive.astype(float)
            return kept

        return step_by_step(slot, worth)

    return decode
