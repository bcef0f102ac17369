"""Resampled curves: every estimate is made on the data (row 0) and on resamples of the replicates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

from routegraph.stats.intervals import Interval

Array = NDArray[np.float64]


def interval(values: ArrayLike, value: float | None = None) -> Interval:
    """Return the first value (or `value`) and the 2.5 and 97.5 percentiles of the others.

    NaN counts as beyond: where more than 2.5 % are NaN, no bound is known.
    """
    listed = np.asarray(values, dtype=float)
    centre = float(listed[0]) if value is None else value
    rest = listed[1:]
    if len(rest) == 0 or np.isnan(rest).mean() > 0.025:
        return Interval(centre, np.nan, np.nan)
    low, high = np.nanpercentile(rest, [2.5, 97.5])
    return Interval(centre, float(low), float(high))


def widened(values: Array, replicates: int) -> Array:
    """Return values, float64[B + 1], with the resamples spread so that percentiles are right for few replicates.

    A bootstrap of n replicates lacks n / (n - 1) in its variance, and knows that variance no better than Student's t
    with n - 1 degrees of freedom: the expanded percentile interval of Hesterberg (2015). The order stays.
    """
    known = np.isfinite(values[1:])
    if known.sum() < 2:
        return values
    drawn = values[1:][known]
    rank = np.empty(len(drawn))
    rank[np.argsort(drawn, kind="stable")] = (np.arange(len(drawn)) + 0.5) / len(drawn)
    wider = stdtrit(replicates - 1, 0.025) / ndtri(0.025) * np.sqrt(replicates / (replicates - 1))
    moved = values.copy()
    moved[1:][known] = np.quantile(drawn, ndtr(wider * ndtri(rank)))
    return moved


def resample_weights(rows: int, resamples: int, rng: np.random.Generator) -> Array:
    """Return weights of rows, float64[1 + resamples, rows], each adding to 1: the data's, then those of resamples."""
    equal = np.full((1, rows), 1 / rows)
    return np.concatenate([equal, rng.multinomial(rows, equal[0], size=resamples) / rows])


@dataclass(frozen=True, eq=False)
class Resampled:
    """Moments of the order parameter over replicates, for the data and for its resamples.

    Attributes
    ----------
    ratios : float64[A]
        Increasing.
    sizes : float64[S]
        Increasing.
    moments : float64[4, B + 1, S, A]
        Means of m, m^2, m^3, m^4; row 0 of B + 1 is the data, the others are bootstrap resamples of the
        replicates, drawn for each size by itself.
    replicates : int
    """

    ratios: Array
    sizes: Array
    moments: Array
    replicates: int

    @property
    def mean(self) -> Array:
        """Mean curves, float64[B + 1, S, A]."""
        return np.asarray(self.moments[0])

    @property
    def variance(self) -> Array:
        """Variance over replicates, float64[B + 1, S, A]."""
        rows = self.replicates
        raw = self.moments[1] - self.moments[0] ** 2
        raw = np.where(raw > 1e-13 * self.moments[1], raw, 0.0)  # less than that is rounding
        return np.asarray(raw * rows / max(rows - 1, 1))

    @cached_property
    def stderr(self) -> Array:
        """Standard error of the mean curves, float64[S, A]."""
        return np.asarray(np.sqrt(self.variance[0] / self.replicates))

    @cached_property
    def smoother(self) -> tuple[Array, Array]:
        """Matrices float64[A, A] that turn a curve into its smoothed self and its slope."""
        return local_quadratic(self.ratios)

    def alone(self) -> Resampled:
        """Return the same without the resamples: no interval is known."""
        return Resampled(self.ratios, self.sizes, self.moments[:, :1], self.replicates)

    def from_size(self, first: int) -> Resampled:
        """Return the same without the `first` smallest sizes."""
        return Resampled(self.ratios, self.sizes[first:], self.moments[:, :, first:], self.replicates)


def resample(ratios: Array, samples: Array, sizes: Array, resamples: int, seed: int) -> Resampled:
    """Return the moments of samples[S, R, A] and of bootstrap resamples of the replicates."""
    rng = np.random.default_rng(seed)
    n_sizes, rows, _ = samples.shape
    moments = np.empty((4, resamples + 1, n_sizes, len(ratios)))
    for s in range(n_sizes):
        weights = resample_weights(rows, resamples, rng)
        power = np.ones_like(samples[s])
        for k in range(4):
            power = power * samples[s]
            moments[k, :, s] = weights @ power
    return Resampled(ratios, sizes, moments, rows)


def local_quadratic(x: Array, reach: int | None = None) -> tuple[Array, Array]:
    """Return (smooth, slope): a parabola is fitted to `reach` points on either side of each point.

    Both are matrices float64[A, A] to apply to curves on the grid `x`; with fewer than 7 points the curve is
    left as it is and the slope is by central differences.
    """
    n = len(x)
    side = max(2, n // 20) if reach is None else reach
    if n < 7:
        return np.eye(n), np.asarray(np.gradient(np.eye(n), x, axis=0))
    value, slope = np.zeros((n, n)), np.zeros((n, n))
    for j in range(n):
        first = min(max(j - side, 0), n - 2 * side - 1) if n > 2 * side else 0
        rows = np.arange(first, min(first + 2 * side + 1, n))
        inverse = np.linalg.pinv(np.vander(x[rows] - x[j], 3, increasing=True))
        value[j, rows], slope[j, rows] = inverse[0], inverse[1]
    return value, slope


def at(x: Array, curves: Array, where: Array) -> Array:
    """Interpolate curves[..., A] linearly at where[...]; NaN stays NaN."""
    safe = np.where(np.isnan(where), x[0], where)
    right = np.clip(np.searchsorted(x, safe), 1, len(x) - 1)
    share = (safe - x[right - 1]) / (x[right] - x[right - 1])
    low = np.take_along_axis(curves, (right - 1)[..., None], -1)[..., 0]
    high = np.take_along_axis(curves, right[..., None], -1)[..., 0]
    return np.asarray(np.where(np.isnan(where), np.nan, low + share * (high - low)))


def at_curved(x: Array, curves: Array, where: Array) -> Array:
    """Interpolate curves[..., A] at where[...] by the parabola through the three nearest points; NaN stays NaN.

    A straight line between the points of a grid cuts off what is curved, most where a peak is narrow for the grid.
    Never lower than the lower one of the two points on either side, so that what is positive stays so.
    """
    if len(x) < 3:
        return at(x, curves, where)
    safe = np.where(np.isnan(where), x[0], where)
    right = np.clip(np.searchsorted(x, safe), 1, len(x) - 1)
    nearest = right - (safe - x[right - 1] < x[right] - safe)
    middle = np.clip(nearest, 1, len(x) - 2)

    def value(place: NDArray[np.int64]) -> Array:
        return np.asarray(np.take_along_axis(curves, place[..., None], -1)[..., 0])

    found = np.zeros(np.shape(safe))
    for one, two, three in ((-1, 0, 1), (0, -1, 1), (1, -1, 0)):  # Lagrange's polynomials
        share = (safe - x[middle + two]) * (safe - x[middle + three])
        found += (
            share
            / ((x[middle + one] - x[middle + two]) * (x[middle + one] - x[middle + three]))
            * value(middle + one)
        )
    least = np.minimum(value(right - 1), value(right))
    return np.asarray(np.where(np.isnan(where), np.nan, np.maximum(found, least)))


def power_law(sizes: Array, values: Array) -> Array:
    """Return the exponent e of values ~ sizes^e, by least squares in logarithms, float64[...].

    values : float64[B + 1, S]; weighted by the spread of their logarithms over the resamples.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(np.where(values > 0, values, np.nan))
    return line(np.log(sizes), log)[1]


def variance(values: Array) -> Array:
    """Return the variance over rows without NaN, float64[S]; NaN for a column with none."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    safe = np.where(known, values, 0.0)
    mean = safe.sum(axis=0) / np.maximum(count, 1)
    squares = np.where(known, (values - mean) ** 2, 0.0).sum(axis=0)
    return np.asarray(np.where(count > 0, squares / np.maximum(count, 1), np.nan))


def line(x: Array, y: Array) -> tuple[Array, Array]:
    """Return (intercept, slope) of the weighted straight line through each row of y[B + 1, S].

    x : float64[S] or float64[B + 1, S]; a column weighs one over its variance over the rows.
    """
    x = np.broadcast_to(x, y.shape)
    spread = variance(y) if len(y) > 1 else np.ones(y.shape[1])
    positive = spread[spread > 0]
    weight = 1 / np.maximum(spread, 1e-3 * positive.mean() if positive.size else 1)
    weight = weight / weight.sum()
    middle = (weight * x).sum(axis=1, keepdims=True)
    centre = (weight * y).sum(axis=1, keepdims=True)
    top = (weight * (x - middle) * (y - centre)).sum(axis=1)
    bottom = (weight * (x - middle) ** 2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = top / bottom
    return centre[:, 0] - slope * middle[:, 0], slope
