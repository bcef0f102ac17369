"""Score fields: the random scores by which simulated slots are evicted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import policies, rng
from routegraph.kernels.ranks import permutations
from routegraph.survival import Survival


def one_factor(
    generator: np.random.Generator, n_layers: int, n_heads: int, n_context: int, rho: float
) -> NDArray[np.float32]:
    """Return standard normal scores, correlation rho between any two slots of one token, none between tokens.

    float32[n_layers, n_heads, n_context]: sqrt(rho) z[token] + sqrt(1 - rho) e[layer, head, token].
    """
    noise = generator.standard_normal((n_layers, n_heads, n_context), dtype=np.float32)
    if rho == 0:
        return noise
    shared = generator.standard_normal(n_context, dtype=np.float32)
    return np.asarray(np.sqrt(rho) * shared + np.sqrt(1 - rho) * noise, dtype=np.float32)


def draw_survival(
    sequence: np.random.SeedSequence,
    shape: tuple[int, int, int],
    policy: str,
    rho: float,
    parameters: dict[str, Any],
) -> Survival:
    """Draw scores of `shape` (layers, heads, rows) and evict by `policy`.

    The policy "random" without correlation takes its orders straight from the counter-based numbers;
    with correlation it evicts in the order of the correlated random scores.
    """
    if policy == "random" and rho == 0:
        _, rank_key = rng.keys(sequence)
        return Survival(permutations(rank_key, *shape))
    scores = one_factor(rng.generator(sequence, rng.SCORES), *shape, rho)
    return policies.apply("topk" if policy == "random" else policy, scores, **parameters)
