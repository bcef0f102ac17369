"""Expected reads of every key, for each way in which heads pick their keys.

A load turns the chance ``reached[i]`` that query i is reached into ``sum_i reached[i] K(i, j)``: how often
key j is read by a reached query when each of them makes one read, by the kernel K(i, j) of its kind, a
probability over the keys j <= i. `routegraph.theory.reach.cavity` takes any of them; functions with
parameters go in through ``functools.partial``.

All are exact, cost O(n) (`powerlaw_load` O(n log n)), and take and return float64[n_positions].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Profile = NDArray[np.float64]


def uniform_load(reached: Profile) -> Profile:
    """Return the load of reads uniform on 0..i: K(i, j) = 1 / (i + 1)."""
    share = reached / np.arange(1, len(reached) + 1)
    return np.cumsum(share[::-1])[::-1]


def window_load(reached: Profile, window: int) -> Profile:
    """Return the load of reads uniform on the last `window` positions up to i."""
    share = reached / np.minimum(np.arange(1, len(reached) + 1), window)
    total = np.concatenate([[0.0], np.cumsum(share)])
    position = np.arange(len(reached))
    return np.asarray(total[np.minimum(position + window, len(reached))] - total[position])


def powerlaw_load(reached: Profile, exponent: float) -> Profile:
    """Return the load of reads that fall off with distance: K(i, j) ~ (i - j + 1)**-exponent over 0..i.

    `exponent` 0 is `uniform_load`; any real number is taken. A convolution by FFT, so that entries carry an
    absolute error of about 1e-15 times the largest.
    """
    n = len(reached)
    fall = np.arange(1, n + 1, dtype=float) ** -exponent
    share = reached / np.cumsum(fall)
    size = 2 * n
    spectrum = np.fft.rfft(share, size) * np.conj(np.fft.rfft(fall, size))
    return np.asarray(np.maximum(np.fft.irfft(spectrum, size)[:n], 0.0))


def popularity_load(reached: Profile, weights: ArrayLike) -> Profile:
    """Return the load of reads by popularity: K(i, j) = w_j / sum of w_k over k <= i.

    Parameters
    ----------
    reached : float64[n_positions]
    weights : float[n_positions]
        Popularity of each position, not negative; the first is positive.

    Raises
    ------
    ValueError
        If `weights` has another length, a negative entry, or a first entry of 0.
    """
    popularity = _weights(weights, len(reached))
    share = reached / np.cumsum(popularity)
    return np.asarray(popularity * np.cumsum(share[::-1])[::-1])


def sink_load(
    reached: Profile,
    p_sink: float,
    n_sink: int,
    p_recent: float,
    recent: int,
    weights: ArrayLike | None = None,
) -> Profile:
    """Return the load of attention sinks, recency and popularity mixed.

    Parameters
    ----------
    reached : float64[n_positions]
    p_sink, n_sink : float, int
        Share of the reads that goes uniformly to the first `n_sink` positions (to 0..i where i is smaller).
    p_recent, recent : float, int
        Share that goes uniformly to the last `recent` positions up to i.
    weights : float[n_positions], optional
        Popularity by which the rest is read (`popularity_load`); uniform by default.

    Raises
    ------
    ValueError
        If a share is negative, both exceed 1 together, or a width is below 1.
    """
    if p_sink < 0 or p_recent < 0 or p_sink + p_recent > 1 + 1e-12:
        raise ValueError(
            f"p_sink and p_recent must be shares with a sum of at most 1, got {p_sink}, {p_recent}"
        )
    if n_sink < 1 or recent < 1:
        raise ValueError(f"n_sink and recent must be at least 1, got {n_sink}, {recent}")
    n = len(reached)
    to_sinks = np.zeros(n)
    share = reached / np.minimum(np.arange(1, n + 1), n_sink)
    to_sinks[:n_sink] = np.cumsum(share[::-1])[::-1][:n_sink]
    rest = uniform_load(reached) if weights is None else popularity_load(reached, weights)
    recency = window_load(reached, recent)
    return np.asarray(p_sink * to_sinks + p_recent * recency + (1 - p_sink - p_recent) * rest)


def _weights(weights: ArrayLike, n: int) -> Profile:
    popularity = np.asarray(weights, dtype=float)
    if popularity.shape != (n,):
        raise ValueError(f"weights must have one entry for each of the {n} positions, got {popularity.shape}")
    if np.any(popularity < 0) or not popularity[0] > 0:
        raise ValueError("weights must not be negative, and the first must be positive")
    return popularity
