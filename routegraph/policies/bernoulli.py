"""Every slot dies on its own, at a random ratio: percolation with independent sites."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from routegraph.kernels import rng
from routegraph.kernels.ranks import random_levels
from routegraph.policies.base import check_scores, policy
from routegraph.survival import Survival


@policy("bernoulli", scores=None, draws="levels", cut="every slot at a random ratio")
def bernoulli(scores: ArrayLike, *, n_context: int, seed: int = 0, resolution: int = 8192) -> Survival:
    """Evict each slot independently with probability `ratio`; scores give the shape only.

    Nested. No cache works like this (the kept number fluctuates); percolation theory does. Ratios are
    resolved in steps of 1 / resolution.

    Raises
    ------
    ValueError
        If resolution is below 2.
    """
    shape = check_scores(scores, n_context).shape
    _, rank_key = rng.keys(np.random.SeedSequence(seed))
    return bernoulli_survival(rank_key, shape, resolution)


def bernoulli_survival(rank_key: np.uint64, shape: tuple[int, ...], resolution: int) -> Survival:
    """Return independent uniform levels for slots of `shape` (layers, heads, rows) from a rank key."""
    if resolution < 2:
        raise ValueError(f"resolution must be at least 2, got {resolution}")
    return Survival(random_levels(rank_key, *shape, resolution), np.arange(1, resolution) / resolution)
