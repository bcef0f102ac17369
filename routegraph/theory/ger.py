"""Theory of the Global Eviction Ratio: the chance that a token is gone from every one of M slots.

Throughout, p is the fraction of evictable rows gone at a level (k/n for plain policies) and M the slots
that must all be gone: the heads of a layer, or all (layer, head) of the model.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from routegraph.kernels.copula import count_all_below

Curve = NDArray[np.float64]

#: Nodes of the trapezoid rule for a standard normal factor. It converges exponentially for smooth
#: integrands; +-8.5 leaves a mass below 1e-16 outside.
_Z = np.linspace(-8.5, 8.5, 2001)
_Z_WEIGHT = np.exp(-0.5 * _Z**2) / np.exp(-0.5 * _Z**2).sum()


def independent(p: ArrayLike, slots: int) -> Curve:
    """Return E[GER] = p**M for independent slots; exact at finite n for p = level/n.

    Parameters
    ----------
    p : float[...]
        Fraction of rows gone from each slot.
    slots : int
        M, at least 1.
    """
    return np.asarray(p, dtype=float) ** slots


def independent_variance(level: ArrayLike, n: int, slots: int, tokens: int, layers: int = 1) -> Curve:
    """Return the variance of GER over m distinct answer tokens, independent slots, exact at finite n.

    Parameters
    ----------
    level : int[...]
        Rows gone from each slot, 0..n.
    n : int
        Cache rows.
    slots : int
        M, slots that must all be gone.
    tokens : int
        m, answer tokens, 1..n.
    layers : int
        Average over this many independent layers (head axis "layer").

    Notes
    -----
    [m p1 + m (m-1) p2] / m^2 - p1^2 with p1 = (k/n)^M and p2 = (k (k-1) / (n (n-1)))^M: two tokens of
    one slot share its k places.
    """
    k = np.asarray(level, dtype=float)
    p1 = (k / n) ** slots
    p2 = (k * (k - 1) / (n * (n - 1))) ** slots if n > 1 else np.zeros_like(k)
    m = tokens
    return np.asarray(np.maximum((m * p1 + m * (m - 1) * p2) / m**2 - p1**2, 0) / layers)


def half_point(slots: float) -> float:
    """Return the ratio at which half of all tokens are gone from M independent slots, 2**(-1/M)."""
    return float(2 ** (-1 / slots))


def effective_slots(ger: ArrayLike, p: ArrayLike) -> Curve:
    """Return M_eff = ln GER / ln p: independent slots that would give the same GER.

    NaN where it is undefined (GER or p equal to 0 or 1).
    """
    g, q = np.broadcast_arrays(np.asarray(ger, dtype=float), np.asarray(p, dtype=float))
    result = np.full(g.shape, np.nan)
    inside = (g > 0) & (g < 1) & (q > 0) & (q < 1)
    result[inside] = np.log(g[inside]) / np.log(q[inside])
    return result


def one_factor(p: ArrayLike, slots: int, rho: float) -> Curve:
    """Return GER when the scores of a token share one Gaussian factor.

    Parameters
    ----------
    p : float[n_ratios]
        Fraction gone from each slot.
    slots : int
        M.
    rho : float
        Correlation of any two slots' scores, in [0, 1].

    Returns
    -------
    float64[n_ratios]
        E_z[ Phi((Phi^-1(p) - sqrt(rho) z) / sqrt(1 - rho))^M ], by a trapezoid rule; large n.

    Raises
    ------
    ValueError
        If rho is outside [0, 1].
    """
    if not 0 <= rho <= 1:
        raise ValueError(f"rho must be in [0, 1], got {rho}")
    gone = np.atleast_1d(np.asarray(p, dtype=float))
    if rho == 0:
        return independent(gone, slots)
    if rho == 1:
        return gone
    threshold = (ndtri(gone)[:, None] - np.sqrt(rho) * _Z) / np.sqrt(1 - rho)
    return np.asarray(ndtr(threshold) ** slots @ _Z_WEIGHT)


def fit_one_factor(p: ArrayLike, observed: ArrayLike, slots: int) -> float:
    """Return the rho in [0, 1] whose one-factor curve is nearest to an observed one (least squares).

    Judge the fit on ratios that were not given here.
    """
    from scipy.optimize import minimize_scalar

    gone, target = np.asarray(p, dtype=float), np.asarray(observed, dtype=float)

    def loss(rho: float) -> float:
        return float(np.sum((one_factor(gone, slots, rho) - target) ** 2))

    return float(minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": 1e-4}).x)


class Estimate(NamedTuple):
    """A Monte Carlo value with its standard error, each float64[n_ratios]."""

    mean: Curve
    stderr: Curve


def gaussian_copula(
    correlation: NDArray[np.float64],
    p: ArrayLike,
    *,
    shift: ArrayLike = 0.0,
    draws: int = 100_000,
    seed: int = 0,
) -> Estimate:
    """Return GER when the normal scores of a token's slots have a measured correlation matrix.

    Parameters
    ----------
    correlation : float64[M, M]
        Correlation of the slots' normal scores, from `slot_correlation`. Made positive semi-definite.
    p : float[n_ratios] or float[M, n_ratios]
        Fraction gone from each slot; one row a slot where slots differ (AdaKV).
    shift : float or float[M]
        Mean of the normal scores of the tokens asked for (0: average tokens), slot by slot.
    draws, seed : int
        Gaussian vectors drawn and their seed.

    Returns
    -------
    Estimate
        Pr[all M normal scores lie below their thresholds Phi^-1(p)], and its standard error.

    Notes
    -----
    No parameter is fitted to GER. All ratios share the draws, so their errors are correlated.
    """
    slots = len(correlation)
    gone = np.atleast_2d(np.asarray(p, dtype=float))
    # Tokens asked for lie `shift` higher: the same as thresholds that much lower.
    offset = np.broadcast_to(np.asarray(shift, dtype=float), (slots,))
    thresholds = np.broadcast_to(ndtri(gone), (slots, gone.shape[1])).T - offset
    root = _square_root(correlation)
    rng = np.random.default_rng(seed)
    hits = np.zeros(gone.shape[1], dtype=np.int64)
    block = 10_000
    for start in range(0, draws, block):
        scores = rng.standard_normal((min(block, draws - start), slots)) @ root.T
        hits += count_all_below(scores, np.ascontiguousarray(thresholds))
    mean = hits / draws
    return Estimate(mean, np.sqrt(mean * (1 - mean) / draws))


def _square_root(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return A with A A^T the nearest positive semi-definite correlation (eigenvalues clipped at 0)."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0))
    scale = np.linalg.norm(root, axis=1, keepdims=True)
    return np.asarray(root / np.where(scale > 0, scale, 1))


def normal_scores(drop: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return Phi^-1 of the mid-rank of each token within its slot, float64 of the shape of `drop`.

    Parameters
    ----------
    drop : int[..., n_tokens]
        Levels at which the evictable tokens die; ties get their average rank.
    """
    ordered = np.sort(drop, axis=-1)
    flat, sorted_flat = drop.reshape(-1, drop.shape[-1]), ordered.reshape(-1, drop.shape[-1])
    ranks = np.empty(flat.shape)
    for row, values in enumerate(flat):
        low = np.searchsorted(sorted_flat[row], values, side="left")
        high = np.searchsorted(sorted_flat[row], values, side="right")
        ranks[row] = (low + high) / 2
    return np.asarray(ndtri(ranks / drop.shape[-1])).reshape(drop.shape)


def slot_correlation(scores: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the correlation of slots' normal scores over all tokens of all prompts, float64[M, M].

    Parameters
    ----------
    scores : list of float64[M, n_tokens]
        Normal scores of each prompt's tokens, from `normal_scores` with its slots flattened.
    """
    joined = np.concatenate(scores, axis=1)
    scatter = joined @ joined.T
    scale = np.sqrt(np.diag(scatter))
    return np.asarray(scatter / np.outer(scale, scale))
