"""Two shares of the same items beside each other: exact p-values, and intervals of their difference."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from routegraph.stats.proportions import wilson

Floats = NDArray[np.float64]


def sign_test(more: ArrayLike, fewer: ArrayLike) -> Floats:
    """Return exact two-sided p-values of "of what differs, either is as likely", float64[...] (McNemar, exact).

    Parameters
    ----------
    more, fewer : int[...]
        Items at which only the first is right, and at which only the second is.
    """
    one, two = np.asarray(more), np.asarray(fewer)
    return np.asarray(np.minimum(1.0, 2 * binom.cdf(np.minimum(one, two), one + two, 0.5)))


def paired_difference(one: ArrayLike, two: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return the difference of two shares of the same items with the ends of its 95 % interval, float64[...] each.

    Parameters
    ----------
    one, two : bool[n_items, ...]
        Whether each item counts.

    Notes
    -----
    Newcombe's method 10 (Statistics in Medicine 17, 2635, 1998): Wilson's intervals of both shares, put together by
    the correlation of the two. It is fit for few items and for shares near 0 and 1, where a bootstrap is too narrow.
    """
    first, second = np.asarray(one, dtype=bool), np.asarray(two, dtype=bool)
    n = len(first)
    both, only, other = (part.sum(axis=0) for part in (first & second, first & ~second, ~first & second))
    neither = n - both - only - other
    p, q = (both + only) / n, (both + other) / n
    (p_low, p_high), (q_low, q_high) = wilson(both + only, n), wilson(both + other, n)
    product = (both + only) * (other + neither) * (both + other) * (only + neither)
    apart = (both * neither - only * other).astype(float)
    apart = np.where(apart > 0, np.maximum(apart - n / 2, 0.0), apart)
    phi = np.divide(apart, np.sqrt(product.astype(float)), out=np.zeros_like(apart), where=product > 0)

    def reach(a: Floats, b: Floats) -> Floats:
        return np.asarray(np.sqrt(np.maximum(a**2 - 2 * phi * a * b + b**2, 0.0)))

    return p - q, p - q - reach(p - p_low, q_high - q), p - q + reach(p_high - p, q - q_low)
