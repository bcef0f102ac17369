"""Where reachability breaks when reads go to non-causal targets, and when it is a transition at all.

Non-causal reads only: every key may be read by every query (``causal=False``). With causal reads the early
population drifts to early positions and the half point lies lower; use the cavity there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]


def lorenz(weights: ArrayLike, ratio: ArrayLike) -> Curve:
    """Return m(ratio), the share of attention mass on the rows kept when the lightest go first.

    Parameters
    ----------
    weights : float[n]
        Attention mass of each row, not negative, with a positive sum.
    ratio : float[...]
        Fraction of rows removed, in [0, 1]; between multiples of 1/n the curve is linear (Lorenz 1905).

    Returns
    -------
    float64[...]
        1 - ratio for equal weights, more for unequal ones.

    Raises
    ------
    ValueError
        If a weight is negative or all are 0.
    """
    mass = np.sort(np.asarray(weights, dtype=float))
    if mass.ndim != 1 or mass.size == 0 or mass[0] < 0 or mass.sum() == 0:
        raise ValueError("weights must be a list of numbers that are not negative, with a positive sum")
    lost = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    return np.asarray(1 - np.interp(np.asarray(ratio, dtype=float), np.linspace(0, 1, len(lost)), lost))


def crossover(n: int, n_layers: int, reads: float, mass: Callable[[float], float] | None = None) -> float:
    """Return the ratio where one query just reaches everything: reads * m(ratio) = n**(1/n_layers) - 1.

    Parameters
    ----------
    n, n_layers : int
        Rows and layers.
    reads : float
        Reads a token makes in a layer, n_heads * degree.
    mass : function of the ratio, optional
        m: attention mass the policy keeps, not increasing; 1 - ratio (random eviction) by default, else
        ``lambda ratio: lorenz(weights, ratio)`` for a policy that keeps the heaviest rows.

    Returns
    -------
    float
        In [0, 1]; 0 where even the full cache is too thin.

    Notes
    -----
    The mean population grows by 1 + reads * m a layer (with residual edges). A crossover, not a transition:
    it moves with n and n_layers through n_layers / ln n alone. n = 2048, 8 heads of degree 1, 8/16/32 layers:
    this law .801/.924/.966; mean half point of 60 runs .793/.917/.961, standard errors .004/.002/.001. Fewer
    heads of a higher degree share slots and lie lower (one head of degree 8: .753/.894/.950).
    """
    needed = (n ** (1 / n_layers) - 1) / reads
    if mass is None:
        return float(np.clip(1 - needed, 0, 1))
    if mass(0.0) <= needed:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mass(middle) > needed else (low, middle)
    return (low + high) / 2


def crossover_width(n: int, n_layers: int, reads: float) -> tuple[float, float]:
    """Return the range in which the 25-75 % width of one run's crossover lies: 2 to 2.6 n**(1/L) / (L reads).

    Random eviction, non-causal uniform reads, as many heads as reads. n**(1/L) / (L reads) is the change of the
    ratio that changes the final population by a factor e; the number in front is measured (1.9/2.3/2.8 at n =
    2048, 8 reads, 8/16/32 layers). The mean over runs is wider, since their half points scatter.
    """
    scale = n ** (1 / n_layers) / (n_layers * reads)
    return 2 * scale, 2.6 * scale


def local_threshold(reads: float) -> float:
    """Return the mean-field critical ratio without residual edges: reads * (1 - ratio) = 1.

    Valid for non-causal or local reads, where the population has no other way to last: below it dies out in
    any number of layers (an absorbing state; mean field, beta = 1). Reads confined to a narrow window bring in
    directed percolation, whose threshold lies at a lower ratio. 0 where `reads` is at most 1.
    """
    return max(0.0, 1 - 1 / reads)
