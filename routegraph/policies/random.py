"""Evict in random order, independently in every slot: the null model."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from routegraph.kernels import rng
from routegraph.kernels.ranks import permutations
from routegraph.policies.base import check_scores, policy
from routegraph.survival import Survival


@policy("random", scores=None, draws="orders", plain=True, cut="a random order in every head")
def random(scores: ArrayLike, *, n_context: int, seed: int = 0) -> Survival:
    """Evict the rows of each (layer, head) in a random order of its own; scores give the shape only.

    Nested. Unlike kvpress's ``RandomPress(seed=k)``, which repeats one pattern in every layer, all
    (layer, head) are independent.
    """
    n_layers, n_heads, _ = check_scores(scores, n_context).shape
    _, rank_key = rng.keys(np.random.SeedSequence(seed))
    return Survival(permutations(rank_key, n_layers, n_heads, n_context))
