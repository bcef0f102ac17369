"""Critical points of measured and simulated curves, with intervals from resampling replicates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.stats.bootstrap import resample_weights
from routegraph.stats.intervals import Interval


def crossing(x: ArrayLike, curves: ArrayLike, target: float = 0.5) -> NDArray[np.float64]:
    """Return where each curve first crosses `target`, by linear interpolation.

    Parameters
    ----------
    x : float[A]
        Increasing abscissae.
    curves : float[..., A]
        Values; may rise or fall.
    target : float
        Value to cross.

    Returns
    -------
    float64[...]
        NaN where a curve stays on one side.
    """
    grid, values = np.asarray(x, dtype=float), np.asarray(curves, dtype=float)
    side = values - target
    changes = (side[..., :-1] * side[..., 1:] <= 0) & (side[..., :-1] != side[..., 1:])
    first = np.argmax(changes, axis=-1)
    left = np.take_along_axis(side, first[..., None], -1)[..., 0]
    right = np.take_along_axis(side, first[..., None] + 1, -1)[..., 0]
    span = np.where(left == right, 1, left - right)
    found = grid[first] + (grid[first + 1] - grid[first]) * left / span
    return np.where(changes.any(axis=-1), found, np.nan)


def crossings(
    x: ArrayLike, curves: ArrayLike, target: float = 0.5, noise: ArrayLike = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return how often each curve crosses `target`, and where first and last.

    Parameters
    ----------
    x : float[A]
        Increasing abscissae.
    curves : float[..., A]
    target : float
    noise : float, broadcast with curves
        A curve has crossed once it is farther beyond the target than this; to and fro within it count once.

    Returns
    -------
    (int64[...], float64[...], float64[...])
        Number; the first and the last place, by linear interpolation, NaN where the number is 0.
    """
    grid, values = np.asarray(x, dtype=float), np.asarray(curves, dtype=float)
    side = values - target
    sign = np.where(np.abs(side) > noise, np.sign(side), 0.0)
    # The last place up to each one at which the side was clear; -1 where it was not yet.
    clear = np.maximum.accumulate(np.where(sign != 0, np.arange(len(grid)), -1), axis=-1)
    before = np.concatenate([np.full((*clear.shape[:-1], 1), -1), clear[..., :-1]], axis=-1)
    held = np.where(before >= 0, np.take_along_axis(sign, np.maximum(before, 0), -1), 0.0)
    turned = sign * held < 0
    number = turned.sum(axis=-1)
    steps = (side[..., :-1] * side[..., 1:] <= 0) & (side[..., :-1] != side[..., 1:])
    # A step belongs to the first or last turn if it lies between the clear places on either side of it.
    after = np.arange(len(grid) - 1)
    first, last = np.argmax(turned, axis=-1), len(grid) - 1 - np.argmax(turned[..., ::-1], axis=-1)
    none = (number == 0)[..., None]
    found = []
    for place, backwards in ((first, False), (last, True)):
        begin = np.take_along_axis(before, place[..., None], -1)
        inside = steps & (none | ((after >= begin) & (after < place[..., None])))
        step = (
            len(after) - 1 - np.argmax(inside[..., ::-1], axis=-1)
            if backwards
            else np.argmax(inside, axis=-1)
        )
        left, right = (np.take_along_axis(side, (step + d)[..., None], -1)[..., 0] for d in (0, 1))
        span = np.where(left == right, 1, left - right)
        where = grid[step] + (grid[step + 1] - grid[step]) * left / span
        found.append(np.where(inside.any(axis=-1), where, np.nan))
    return np.maximum(number, steps.any(axis=-1)), found[0], found[1]


def half_point(
    ratios: ArrayLike, samples: ArrayLike, target: float = 0.5, resamples: int = 1000, seed: int = 0
) -> Interval:
    """Return the ratio at which the mean curve first crosses `target`, with a bootstrap interval over rows.

    Parameters
    ----------
    ratios : float[A]
        Increasing compression ratios.
    samples : float[R, A]
        One curve a replicate (or prompt).
    target : float
        Value to cross.
    resamples, seed : int
        Bootstrap resamples of the R rows, and their seed.

    Returns
    -------
    Interval
        Value, and the 2.5 and 97.5 percentiles (NaN at one replicate). A resample that never crosses
        counts as beyond the grid: the bound is NaN where more than 2.5 % of them do.
    """
    grid, curves = np.asarray(ratios, dtype=float), np.asarray(samples, dtype=float)
    value = float(crossing(grid, curves.mean(axis=0), target))
    rows = len(curves)
    if rows < 2 or np.isnan(value):
        return Interval(value, np.nan, np.nan)
    weights = resample_weights(rows, resamples, np.random.default_rng(seed))[1:]
    return crossing_interval(value, crossing(grid, weights @ curves, target))


def crossing_interval(value: float, drawn: ArrayLike) -> Interval:
    """Return where a curve crosses with the 2.5 and 97.5 percentiles of where drawn ones do, float[n].

    A drawn curve that never crosses, NaN, counts as beyond the grid: the bound is NaN where more than 2.5 % of them do.
    """
    found = np.sort(np.asarray(drawn, dtype=float))  # NaN sorts last
    low, high = found[int(0.025 * len(found))], found[int(np.ceil(0.975 * len(found))) - 1]
    return Interval(value, float(low), float(high))


class Susceptibility(NamedTuple):
    """Response of an order parameter to compression, each float64[A].

    Attributes
    ----------
    derivative, derivative_error : float64[A]
        |d <m> / d alpha| by central differences, and its standard error over replicates.
    fluctuation, fluctuation_error : float64[A]
        n times the variance of m over replicates, and its standard error (jackknife).
    """

    derivative: NDArray[np.float64]
    derivative_error: NDArray[np.float64]
    fluctuation: NDArray[np.float64]
    fluctuation_error: NDArray[np.float64]


def susceptibility(ratios: ArrayLike, samples: ArrayLike, n: int) -> Susceptibility:
    """Return the susceptibility of an order parameter as a derivative and as a fluctuation.

    Parameters
    ----------
    ratios : float[A]
        Increasing compression ratios, at least two.
    samples : float[R, A]
        The order parameter m of each of at least two replicates.
    n : int
        System size (cache rows).

    Raises
    ------
    ValueError
        If there are fewer than two ratios or two replicates.

    Notes
    -----
    arXiv 2603.01426 calls dH/dalpha the compression susceptibility. The two definitions agree in equilibrium
    statistical physics only; here they are different curves, and both are useful: the first is what a user
    feels, the second is what sharpens with n at a transition.
    """
    grid, curves = np.asarray(ratios, dtype=float), np.asarray(samples, dtype=float)
    if len(grid) < 2 or len(curves) < 2:
        raise ValueError(f"at least 2 ratios and 2 replicates are needed, got {len(grid)} and {len(curves)}")
    rows = len(curves)
    slopes = np.gradient(curves, grid, axis=1)
    slope = slopes.mean(axis=0)
    deviation = (curves - curves.mean(axis=0)) ** 2
    variance = deviation.sum(axis=0) / (rows - 1)
    if rows == 2:
        spread = np.full(len(grid), np.nan)
    else:
        # Variance of all replicates but one, in closed form.
        left_out = (deviation.sum(axis=0) - deviation * rows / (rows - 1)) / (rows - 2)
        spread = np.sqrt((rows - 1) / rows * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    return Susceptibility(np.abs(slope), slopes.std(axis=0, ddof=1) / np.sqrt(rows), n * variance, n * spread)
