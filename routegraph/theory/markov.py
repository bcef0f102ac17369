"""The exact law of how many tokens are reached, layer by layer, for non-causal uniform reads.

In each layer every head of every one of n tokens reads `degree` keys, uniform with replacement. The number
reached is then a Markov chain: an exact reference for the simulator on small graphs, residual or not, and the
plainest proof that **slots are not edges**: eviction dilutes slots, which all readers lose together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

Distribution = NDArray[np.float64]


def occupied(n: int, balls: int) -> Distribution:
    """Return the chance that `balls` thrown uniformly into n boxes occupy 0..n of them, float64[n + 1]."""
    chance = np.zeros(n + 1)
    chance[0] = 1.0
    boxes = np.arange(n + 1)
    for _ in range(balls):
        stays = chance * boxes / n
        stays[1:] += chance[:-1] * (n - boxes[:-1]) / n
        chance = stays
    return chance


def _binomial(n: int, p: float) -> Distribution:
    k = np.arange(n + 1)
    return np.asarray(comb(n, k) * p**k * (1 - p) ** (n - k))


def step(n: int, n_heads: int, degree: int, kept: float, dilute: str, residual: bool) -> NDArray[np.float64]:
    """Return the transition matrix of the number reached in one layer, float64[n + 1, n + 1].

    Parameters
    ----------
    n, n_heads, degree : int
        Tokens, heads, and reads of each (head, token).
    kept : float
        Chance that an edge (or a slot) is alive.
    dilute : {"edges", "slots"}
        "edges": every read is alive on its own. "slots": a (head, key) is alive for all its readers or none.
    residual : bool
        Whether the tokens reached carry themselves down.

    Raises
    ------
    ValueError
        If `dilute` is neither.
    """
    if dilute not in ("edges", "slots"):
        raise ValueError(f"unknown dilution {dilute!r}; choose from: edges, slots")
    result = np.zeros((n + 1, n + 1))
    for reached in range(n + 1):
        reads = reached * degree
        if dilute == "edges":
            hit = np.sum([a * occupied(n, r) for r, a in enumerate(_binomial(reads, kept))], axis=0)
        else:
            hit = np.zeros(n + 1)
            for keys, chance in enumerate(occupied(n, reads)):
                hit[: keys + 1] += chance * _binomial(keys, kept)
        law = np.zeros(n + 1)
        law[reached if residual else 0] = 1.0
        for _ in range(n_heads):
            law = law @ _join(n, hit)
        result[reached] = law
    return result


def _join(n: int, hit: Distribution) -> NDArray[np.float64]:
    """Return the law of the size of the union of a set of each size with a random set of size law `hit`."""
    result = np.zeros((n + 1, n + 1))
    for held in range(n + 1):
        for keys in np.flatnonzero(hit).tolist():
            for new in range(max(0, keys - held), min(keys, n - held) + 1):
                # Of the keys hit, those not held before are new (hypergeometric).
                ways = comb(n - held, new) * comb(held, keys - new) / comb(n, keys)
                result[held, held + new] += hit[keys] * ways
    return result


def reached(
    n: int,
    n_heads: int,
    degree: int,
    kept: float,
    n_layers: int,
    dilute: str = "edges",
    residual: bool = True,
) -> Distribution:
    """Return the chance that 0..n tokens are reached from one token after `n_layers` layers, float64[n + 1].

    Parameters are those of `step`. Exact; O(n^4) once, so for n up to a few dozen.

    Notes
    -----
    n = 12, 3 heads of degree 1, kept = .4, 5 layers: mean 1.526644 without residual and 10.253611 with,
    diluting edges; 1.358 and 9.842 diluting slots.
    """
    law = np.zeros(n + 1)
    law[1] = 1.0
    matrix = step(n, n_heads, degree, kept, dilute, residual)
    for _ in range(n_layers):
        law = law @ matrix
    return law
