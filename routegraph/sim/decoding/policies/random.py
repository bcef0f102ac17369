"""Evict rows drawn uniformly from those that are there: the null model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph.kernels.decoding import random_rows
from routegraph.sim.decoding.policies.base import decoding_policy
from routegraph.sim.decoding.slot import Slot


@decoding_policy("random", theory="uniform")
def random(slot: Slot) -> NDArray[np.int32]:
    """Evict any rows, each of those there with the same chance, in every slot by itself."""
    found: NDArray[np.int32] = random_rows(slot.key, slot.layer, slot.head, slot.capacity(), slot.n_prefill)
    return found
