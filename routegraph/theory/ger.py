"""Theory of the Global Eviction Ratio: the chance that a token is gone from every one of M slots.

Throughout, p is the fraction of evictable rows gone at a level (k/n for plain policies) and M the slots
that must all be gone: the heads of a layer, or all (layer, head) of the model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, ndtr, ndtri

from routegraph.theory.answers import Moments, answer_moments
from routegraph.theory.copula import (
    MonteCarlo,
    fit_degrees,
    gaussian_copula,
    normal_scores,
    slot_correlation,
    square_root,
    student_copula,
)

__all__ = [
    "Moments",
    "MonteCarlo",
    "all_gone",
    "all_gone_one_factor",
    "answer_moments",
    "beta_binomial",
    "effective_slots",
    "fit_beta_binomial",
    "fit_degrees",
    "fit_one_factor",
    "fit_two_factor",
    "gaussian_copula",
    "independent",
    "independent_half_point",
    "independent_variance",
    "normal_scores",
    "one_factor",
    "shifted",
    "slot_correlation",
    "square_root",
    "structural_floor",
    "student_copula",
    "two_factor",
]

Curve = NDArray[np.float64]

#: Nodes of the trapezoid rule for a standard normal factor. It converges exponentially for smooth
#: integrands; +-8.5 leaves a mass below 1e-16 outside.
_Z = np.linspace(-8.5, 8.5, 2001)
_Z_WEIGHT = np.exp(-0.5 * _Z**2) / np.exp(-0.5 * _Z**2).sum()


def independent(p: ArrayLike, slots: int, shift: float = 0.0) -> Curve:
    """Return E[GER] = p**M for independent slots; exact at finite n for p = level/n.

    Parameters
    ----------
    p : float[...]
        Fraction of rows gone from each slot.
    slots : int
        M, at least 1.
    shift : float
        How much higher the answer tokens' normal scores lie: p becomes Phi(Phi^-1(p) - shift).
    """
    return shifted(p, shift) ** slots


def shifted(p: ArrayLike, shift: float) -> Curve:
    """Return Phi(Phi^-1(p) - shift): the fraction gone of tokens whose normal scores lie `shift` higher."""
    gone = np.asarray(p, dtype=float)
    return gone if shift == 0 else np.asarray(ndtr(ndtri(gone) - shift))


def structural_floor(p: ArrayLike, slots: int) -> Curve:
    """Return max(0, 1 - M (1 - p)): GER over all tokens cannot be lower, whatever the scores.

    M slots keep n (1 - p) rows each, so at most M n (1 - p) tokens are anywhere. Fixed budgets; for the
    evictable tokens as a whole (eviction rate), not for chosen ones.
    """
    return np.asarray(np.maximum(0, 1 - slots * (1 - np.asarray(p, dtype=float))))


def all_gone(level: ArrayLike, n: int, slots: int, tokens: int) -> Curve:
    """Return Pr[E], the chance that all m answer tokens are gone from all M independent slots.

    Parameters
    ----------
    level : int[...]
        Rows gone from each slot, 0..n.
    n, slots, tokens : int
        Cache rows; M; m, 1..n.

    Returns
    -------
    float64[...]
        (C(n - m, k - m) / C(n, k))**M, exact at finite n; at most E[GER], since GER counts parts.
    """
    k = np.asarray(level, dtype=float)[..., None]
    drawn = np.arange(tokens)
    return np.asarray(np.prod(np.maximum(k - drawn, 0) / (n - drawn), axis=-1) ** slots)


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


def independent_half_point(slots: float) -> float:
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


def one_factor(p: ArrayLike, slots: int, rho: float, shift: float = 0.0) -> Curve:
    """Return GER when the scores of a token share one Gaussian factor.

    Parameters
    ----------
    p : float[n_ratios]
        Fraction gone from each slot.
    slots : int
        M.
    rho : float
        Correlation of any two slots' scores, in [0, 1].
    shift : float
        How much higher the answer tokens' normal scores lie, in every slot.

    Returns
    -------
    float64[n_ratios]
        E_z[ Phi((Phi^-1(p) - shift - sqrt(rho) z) / sqrt(1 - rho))^M ], by a trapezoid rule; large n.

    Raises
    ------
    ValueError
        If rho is outside [0, 1].
    """
    _check_correlation("rho", rho)
    gone = np.atleast_1d(shifted(p, shift))
    if rho == 0:
        return independent(gone, slots)
    cut = ndtri(gone)[:, None]
    if rho < 0.5:
        return np.asarray(ndtr((cut - np.sqrt(rho) * _Z) / np.sqrt(1 - rho)) ** slots @ _Z_WEIGHT)
    # Near rho = 1 that integrand is a step. By parts it is smooth: the largest of the M own terms, whose
    # distribution is Phi^M, stays below the cut.
    largest = slots * ndtr(_Z) ** (slots - 1) * _Z_WEIGHT
    return np.asarray(ndtr((cut - np.sqrt(1 - rho) * _Z) / np.sqrt(rho)) @ largest)


def all_gone_one_factor(p: ArrayLike, slots: int, rho: float, tokens: int, shift: float = 0.0) -> Curve:
    """Return Pr[E] under `one_factor`: GER^m, since tokens share no factor with each other (large n)."""
    return np.asarray(one_factor(p, slots, rho, shift) ** tokens)


def two_factor(p: ArrayLike, n_layers: int, n_heads: int, rho_token: float, rho_layer: float) -> Curve:
    """Return GER over the model when a token's scores share a factor, and those of one layer another.

    Parameters
    ----------
    p : float[n_ratios]
        Fraction gone from each slot.
    n_layers, n_heads : int
    rho_token : float
        Correlation of slots of different layers.
    rho_layer : float
        What slots of one layer have on top; the sum lies in [0, 1]. GER of one layer is
        ``one_factor(p, n_heads, rho_token + rho_layer)``.

    Returns
    -------
    float64[n_ratios]
        E_z[ E_u[ Phi((Phi^-1(p) - sqrt(rho_token) z - sqrt(rho_layer) u) / sqrt(1 - both))^H ]^L ]; large n.

    Raises
    ------
    ValueError
        If a correlation, or their sum, is outside [0, 1].
    """
    both = rho_token + rho_layer
    for name, value in (("rho_token", rho_token), ("rho_layer", rho_layer), ("rho_token + rho_layer", both)):
        _check_correlation(name, value)
    gone = np.atleast_1d(np.asarray(p, dtype=float))
    if rho_token == 1:
        return gone
    # Given the token's factor, a layer is a one-factor model at another threshold.
    z, left = _Z[::4], 1 - rho_token
    weight = _Z_WEIGHT[::4] / _Z_WEIGHT[::4].sum()
    result = np.empty(len(gone))
    for i, threshold in enumerate(ndtri(gone)):
        given = ndtr((threshold - np.sqrt(rho_token) * z) / np.sqrt(left))
        result[i] = one_factor(given, n_heads, min(rho_layer / left, 1.0)) ** n_layers @ weight
    return result


def beta_binomial(p: ArrayLike, slots: int, rho: float) -> Curve:
    """Return GER when a token's chance to be gone is the same in all slots and beta distributed.

    Parameters
    ----------
    p : float[n_ratios]
        Fraction gone from each slot, the mean of the beta law.
    slots : int
        M.
    rho : float
        Correlation of the events "gone from slot i" and "gone from slot j", in [0, 1].

    Returns
    -------
    float64[n_ratios]
        B(a + M, b) / B(a, b) with a = p s, b = (1 - p) s, s = 1 / rho - 1; large n.

    Raises
    ------
    ValueError
        If rho is outside [0, 1].
    """
    _check_correlation("rho", rho)
    gone = np.atleast_1d(np.asarray(p, dtype=float))
    if rho == 0:
        return independent(gone, slots)
    if rho == 1:
        return gone
    s = 1 / rho - 1
    result = gone.copy()
    inside = (gone > 0) & (gone < 1)
    a, b = gone[inside] * s, (1 - gone[inside]) * s
    result[inside] = np.exp(betaln(a + slots, b) - betaln(a, b))
    return result


def fit_one_factor(p: ArrayLike, observed: ArrayLike, slots: int) -> float:
    """Return the rho in [0, 1] whose one-factor curve is nearest to an observed one (least squares).

    Judge the fit on ratios that were not given here.
    """
    return _fit(lambda rho: one_factor(p, slots, rho), observed)


def fit_beta_binomial(p: ArrayLike, observed: ArrayLike, slots: int) -> float:
    """Return the rho in [0, 1] whose beta-binomial curve is nearest to an observed one (least squares).

    Judge the fit on ratios that were not given here.
    """
    return _fit(lambda rho: beta_binomial(p, slots, rho), observed)


def fit_two_factor(
    p: ArrayLike, model: ArrayLike, layer: ArrayLike, n_layers: int, n_heads: int
) -> tuple[float, float]:
    """Return (rho_token, rho_layer) nearest to observed GER of the model and of one layer.

    The curve over the heads of a layer gives the sum, the curve over the model then the first of the two.
    Judge the fit on ratios that were not given here.
    """
    both = fit_one_factor(p, layer, n_heads)
    token = _fit(lambda share: two_factor(p, n_layers, n_heads, share * both, (1 - share) * both), model)
    return token * both, (1 - token) * both


def _fit(curve: Callable[[float], Curve], observed: ArrayLike) -> float:
    from scipy.optimize import minimize_scalar

    target = np.asarray(observed, dtype=float)

    def loss(rho: float) -> float:
        return float(np.sum((curve(rho) - target) ** 2))

    return float(minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": 1e-4}).x)


def _check_correlation(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
