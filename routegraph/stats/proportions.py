"""Proportions: counts out of totals, with Wilson's 95 % intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Proportion(NamedTuple):
    """A share with its 95 % interval; NaN where nothing was counted."""

    value: float
    low: float
    high: float


def proportion(count: int, total: int) -> Proportion:
    """Return count / total with its interval of `wilson`; NaN where total is 0."""
    low, high = wilson(count, total)
    return Proportion(count / total if total else np.nan, float(low), float(high))


def wilson(counts: ArrayLike, totals: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of 95 % score intervals (Wilson 1927) of k out of n, fit for small counts.

    float64[...] each; NaN where n is 0.
    """
    k, n = np.asarray(counts, dtype=float), np.asarray(totals, dtype=float)
    z = 1.959963984540054
    with np.errstate(invalid="ignore", divide="ignore"):
        p = k / n
        centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # At the ends the interval closes exactly; rounding must not push it past the value.
    low = np.where((k == 0) & (n > 0), 0.0, np.maximum(0.0, centre - half))
    high = np.where((k == n) & (n > 0), 1.0, np.minimum(1.0, centre + half))
    return low, high
