"""Is a falling curve of answers a cliff of every item, or a slow decline of each? Thresholds item by item.

The share of items still right at a ratio falls for one of two reasons, or a mixture. Either every item has a step of
its own, right before and wrong after, and their places scatter: then the curve is the distribution of the places, and
no item ever comes back. Or every item is a coin at every ratio, with a chance that declines: then items come and go.
How often wrong items become right again tells the two apart, and the mixture's place between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.critical.points import crossing
from routegraph.stats.bootstrap import interval, resample_weights
from routegraph.stats.intervals import NOWHERE, Interval

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ItemThresholds:
    """Where each item is lost.

    Attributes
    ----------
    ratios : float64[n_ratios]
    right : bool[n_items, n_ratios]
        Items that are right at the first ratio.
    """

    ratios: Floats
    right: NDArray[np.bool_]

    @property
    def kept(self) -> Floats:
        """Share of the items that are right at each ratio, float64[n_ratios]."""
        return np.asarray(self.right.mean(axis=0))

    @property
    def places(self) -> Floats:
        """Ratio from which each item is lost for good, float64[n_items].

        Half way between the last ratio at which it is right and the next; NaN where it is right at the last one.
        """
        last = self.right.shape[1] - 1 - np.argmax(self.right[:, ::-1], axis=1)
        after = np.minimum(last + 1, len(self.ratios) - 1)
        halfway = (self.ratios[last] + self.ratios[after]) / 2
        return np.where(last == len(self.ratios) - 1, np.nan, halfway)

    @property
    def returns(self) -> NDArray[np.int64]:
        """How often each item is wrong at one ratio and right at the next, int64[n_items]."""
        return np.asarray((~self.right[:, :-1] & self.right[:, 1:]).sum(axis=1))

    def coin_returns(self) -> float:
        """Return how often an item would return, were it a coin at every ratio, with the share kept as its chance."""
        return float(_coin_returns(self.kept))

    def stepwise(self, resamples: int = 1000, seed: int = 0) -> Interval:
        """Return how much of the curve is steps of items: 1 where no item returns, 0 where as many do as of coins.

        With a 95 % interval, items resampled; NaN where even coins would not return (nothing or everything is lost
        between two ratios).
        """
        weights = resample_weights(len(self.right), resamples, np.random.default_rng(seed))
        expected = _coin_returns(weights @ self.right)
        if expected[0] <= 0:
            return NOWHERE
        seen = weights @ self.returns
        return interval(1 - np.divide(seen, expected, out=np.full(len(seen), np.nan), where=expected > 0))

    def spread(self, low: float = 0.25, high: float = 0.75) -> Interval:
        """Return the median place and the ratios by which shares `low` and `high` of the items are lost for good.

        NaN where so many are not lost by the last ratio.
        """
        places = np.sort(np.where(np.isnan(self.places), np.inf, self.places))
        found = [places[min(len(places) - 1, int(q * len(places)))] for q in (0.5, low, high)]
        return Interval(*(float(one) if np.isfinite(one) else np.nan for one in found))


def _coin_returns(kept: Floats) -> Floats:
    """Return how often coins with these chances, float64[..., n_ratios], come back, float64[...]."""
    return np.asarray(((1 - kept[..., :-1]) * kept[..., 1:]).sum(axis=-1))


def item_thresholds(ratios: ArrayLike, right: ArrayLike) -> ItemThresholds:
    """Return where each item is lost, of those right at the first ratio.

    Parameters
    ----------
    ratios : float[n_ratios]
        Increasing, at least two.
    right : bool[n_items, n_ratios]
        Whether each item is right at each ratio.

    Raises
    ------
    ValueError
        If the shapes do not fit, ratios do not increase, or no item is right at the first.
    """
    grid, table = np.asarray(ratios, dtype=float), np.asarray(right)
    if table.dtype != np.bool_:
        raise ValueError(f"right must be of booleans, got {table.dtype}")
    if grid.ndim != 1 or len(grid) < 2 or table.ndim != 2 or table.shape[1] != len(grid):
        raise ValueError(
            f"right must be [n_items, n_ratios] of at least 2 ratios, got {table.shape} and {grid.shape}"
        )
    if not (np.diff(grid) > 0).all():
        raise ValueError("ratios must increase")
    known = table[table[:, 0]]
    if not len(known):
        raise ValueError("no item is right at the first ratio, so that none can be lost")
    return ItemThresholds(grid, known)


def item_widths(ratios: ArrayLike, falls: ArrayLike, high: float = 0.9, low: float = 0.1) -> Floats:
    """Return over which span of ratios each item's own reply becomes unlikely.

    Parameters
    ----------
    ratios : float[n_ratios]
        Increasing.
    falls : float[n_items, n_ratios]
        By how much the log-likelihood of the reply has fallen at each ratio.
    high, low : float
        Shares of its likelihood between which the span lies.

    Returns
    -------
    float64[n_items]
        From where the likelihood first falls below `high` of what it was to where it first falls below `low`; NaN where
        it does not.
    """
    grid = np.asarray(ratios, dtype=float)
    kept = -np.asarray(falls, dtype=float)
    return np.asarray(crossing(grid, kept, np.log(low)) - crossing(grid, kept, np.log(high)))
