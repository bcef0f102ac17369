"""Two settings on the same items: exact tests of flips, an interval for the difference, what could be seen."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import betaincinv
from scipy.stats import binom

from routegraph.stats.intervals import Interval

_Z = 1.959963984540054
#: Fewest flips, all in one direction, that are significant at 5 %, two-sided: 2 * .5**6 = .031.
LEAST_FLIPS = 6


def mcnemar(one: int, other: int) -> float:
    """Return the exact two-sided p-value of "flips are as often in one direction as in the other".

    Parameters
    ----------
    one, other : int
        Items that flip in either direction.

    Notes
    -----
    McNemar's test (1947) without approximation: given the number of flips, one direction is Bin(flips, 1/2).

    Examples
    --------
    >>> mcnemar(6, 0)
    0.03125
    """
    if one < 0 or other < 0:
        raise ValueError(f"counts of flips must be at least 0, got {one} and {other}")
    return float(min(1.0, 2 * binom.cdf(min(one, other), one + other, 0.5)))


def paired_difference(gained: int, lost: int, n: int) -> Interval:
    """Return the difference of two shares of the same items, with its 95 % score interval.

    Parameters
    ----------
    gained, lost : int
        Items that count only in the second setting, and only in the first.
    n : int
        All items; NaN where there is none.

    Notes
    -----
    Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Statistics in Medicine 17 (1998): those differences that the score test of the multinomial does not reject. It has
    a width where nothing flips, and needs no approximation of the variance at the estimate.
    """
    if min(gained, lost) < 0 or gained + lost > n:
        raise ValueError(f"flips must be at least 0 and at most {n} together, got {gained} and {lost}")
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    centre = (gained - lost) / n
    return Interval(centre, _end(gained, lost, n, centre, -1.0), _end(gained, lost, n, centre, 1.0))


def _end(gained: int, lost: int, n: int, inside: float, outside: float) -> float:
    """Return where the score test begins to reject, between the estimate and an end, by bisection."""
    if inside == outside:
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        if abs(_score(gained, lost, n, middle)) < _Z:
            inside = middle
        else:
            outside = middle
    return (inside + outside) / 2


def _score(gained: int, lost: int, n: int, difference: float) -> float:
    """Return the score statistic of a difference (Tango's equation for the restricted likelihood)."""
    a = 2 * n
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * share + difference * (1 - difference))
    apart = gained - lost - n * difference
    if variance <= 0:
        return math.copysign(math.inf, apart) if apart else 0.0
    return apart / math.sqrt(variance)


def detectable(n: int, power: float = 0.8) -> float:
    """Return the smallest true share of items flipping, all one way, that n items show; NaN below 6 items.

    Parameters
    ----------
    n : int
        Items.
    power : float
        Chance that the exact two-sided test of `mcnemar` is significant at 5 %.

    Notes
    -----
    It is significant from `LEAST_FLIPS` flips on: the share p with P(Bin(n, p) >= 6) = power. Flips the other way
    make it larger, so it is the best that n items can do.
    """
    if n < LEAST_FLIPS:
        return math.nan
    return float(np.clip(betaincinv(LEAST_FLIPS, n - LEAST_FLIPS + 1, power), 0.0, 1.0))
