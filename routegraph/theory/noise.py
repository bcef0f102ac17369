"""Noise on attention logits: how many pairs swap, and how often the heaviest read stays the heaviest.

A key that is stored in few bits is off by its rounding error, so the logit of a query with it is off by q * error. With
many channels that is a Gaussian number by the central limit theorem, of the standard deviation s (`rounding_noise`).
Whatever all keys of a row share cancels in the softmax and is no noise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, owens_t

#: Points of the quadratures.
_POINTS = 160


def rounding_noise(query: ArrayLike, step: ArrayLike, scaling: float = 1.0) -> float:
    """Return the standard deviation of a logit whose key is rounded to a grid.

    Parameters
    ----------
    query : float[d]
    step : float or float[d]
        Distance of the grid's points in each channel, at least 0.
    scaling : float
        What the product of query and key is multiplied by, as a rule 1 / sqrt(d).

    Notes
    -----
    Errors are taken as independent and uniform on [-step / 2, step / 2], whose variance is step^2 / 12:
    s^2 = scaling^2 sum_c q_c^2 step_c^2 / 12, which is |q|^2 step^2 / (12 d) for one step and scaling 1 / sqrt(d).
    """
    q, width = np.asarray(query, dtype=float), np.asarray(step, dtype=float)
    return float(scaling * np.sqrt((q**2 * width**2).sum() / 12))


def swapped_at(gap: ArrayLike, noise: float) -> NDArray[np.float64]:
    """Return the chance that two reads swap ranks whose logits are `gap` apart: Phi(-gap / (noise sqrt 2)).

    noise : standard deviation on each of the two, at least 0.
    """
    apart = np.abs(np.asarray(gap, dtype=float))
    if noise == 0:
        return np.where(apart > 0, 0.0, 0.5)
    return np.asarray(ndtr(-apart / (noise * math.sqrt(2))))


def swapped(noise: float, spread: float) -> float:
    """Return the share of all pairs that swap ranks, of logits N(0, spread^2): arctan(noise / spread) / pi.

    Notes
    -----
    The difference of two logits and that difference with noise are jointly normal with correlation
    spread / sqrt(spread^2 + noise^2); they differ in sign with the chance arccos(correlation) / pi (Sheppard 1899).
    """
    return math.atan2(noise, spread) / math.pi


def heaviest_stays(n: int, noise: float, spread: float) -> float:
    """Return the chance that the heaviest of n reads is still the heaviest, of logits N(0, spread^2) with noise.

    Parameters
    ----------
    n : int
        At least 1.
    noise, spread : float
        Standard deviations; noise at least 0, spread above 0.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Of the heaviest, let u be the n-th power of its quantile, which is uniform, x its logit and y its noise. The others
    are below x before and below x + y afterwards: the chance is the integral over u and y of [H(x, x + y) / Phi(x)]^(n
    - 1), with H the distribution of a logit without and with its noise (Owen 1956).
    """
    if n < 1 or noise < 0 or spread <= 0:
        raise ValueError(f"needed are n >= 1, noise >= 0 and spread > 0, got {n}, {noise:g} and {spread:g}")
    if n == 1 or noise == 0:
        return 1.0
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    u, by = (nodes + 1) / 2, weights / 2
    # Gauss-Hermite, as the density falls: y = noise * z, z standard normal.
    z, own = np.polynomial.hermite_e.hermegauss(_POINTS // 2)
    own = own / own.sum()
    x = ndtri(np.exp(np.log(u) / n))[:, None]
    total = math.hypot(spread, noise)
    k = (x * spread + noise * z) / total
    below = _both_below(np.broadcast_to(x, k.shape), k, spread / total)
    share = np.clip(below / ndtr(x), 0.0, 1.0)
    return float(by @ share ** (n - 1) @ own)


def heaviest_stays_gumbel(weights: ArrayLike, noise: float) -> NDArray[np.float64]:
    """Return the chance of every read to be the heaviest, under Gumbel noise of a standard deviation on each logit.

    Parameters
    ----------
    weights : float[..., n]
        Attention, not negative, with a sum above 0 in every row.
    noise : float
        Standard deviation, above 0: the scale of the Gumbel numbers is b = noise sqrt(6) / pi.

    Notes
    -----
    Exact: logits a_i plus Gumbel noise of scale b are largest at i with the chance softmax(a / b), that is weights to
    the power 1 / b, rescaled (Gumbel 1954; "the Gumbel-max trick"). At b = 1 a read goes where attention points.
    """
    w = np.asarray(weights, dtype=float)
    with np.errstate(divide="ignore"):
        logits = np.log(w) * (math.pi / (noise * math.sqrt(6)))
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _both_below(h: NDArray[np.float64], k: NDArray[np.float64], rho: float) -> NDArray[np.float64]:
    """Return P(X <= h, Y <= k) of standard normals of correlation rho in (0, 1), by Owen's T function."""
    root = math.sqrt(1 - rho * rho)
    tiny = np.finfo(float).tiny
    h, k = np.where(h == 0, tiny, h), np.where(k == 0, tiny, k)
    apart = np.where(h * k > 0, 0.0, 0.5)
    ends = owens_t(h, (k / h - rho) / root) + owens_t(k, (h / k - rho) / root)
    return np.asarray((ndtr(h) + ndtr(k)) / 2 - ends - apart)
