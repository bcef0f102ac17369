"""Copulas of measured correlations: GER from how the scores of a token's slots really go together.

Normal scores of every slot's order, their correlation over tokens and prompts, and a Gaussian or Student-t
copula drawn from it. No parameter is fitted to GER, but for the degrees of freedom of the Student-t copula.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

from routegraph.kernels.copula import count_all_below

Curve = NDArray[np.float64]


class MonteCarlo(NamedTuple):
    """A Monte Carlo value with its standard error, each float64[n_ratios]."""

    mean: Curve
    stderr: Curve


def gaussian_copula(
    correlation: NDArray[np.float64],
    p: ArrayLike,
    *,
    shift: ArrayLike = 0.0,
    spread: ArrayLike = 1.0,
    draws: int = 100_000,
    seed: int = 0,
) -> MonteCarlo:
    """Return GER when the normal scores of a token's slots have a measured correlation matrix.

    Parameters
    ----------
    correlation : float64[M, M]
        Correlation of the slots' normal scores, from `slot_correlation`. Made positive semi-definite.
    p : float[n_ratios] or float[M, n_ratios]
        Fraction gone from each slot; one row a slot where slots differ (AdaKV).
    shift : float or float[M]
        Mean of the normal scores of the tokens asked for (0: average tokens), slot by slot.
    spread : float or float[M]
        Their standard deviation (1: average tokens), positive.
    draws, seed : int
        Gaussian vectors drawn and their seed.

    Returns
    -------
    MonteCarlo
        Pr[all M normal scores lie below their thresholds Phi^-1(p)], and its standard error.

    Raises
    ------
    ValueError
        If a spread is not positive.

    Notes
    -----
    No parameter is fitted to GER. All ratios share the draws, so their errors are correlated. Valid for many
    rows; its tails are independent, so that at high ratios it lies a little low on real scores.
    """
    return _draw(correlation, _marginals(correlation, p, shift, spread), np.inf, draws, seed)


def student_copula(
    correlation: NDArray[np.float64],
    p: ArrayLike,
    *,
    degrees: float,
    shift: ArrayLike = 0.0,
    draws: int = 100_000,
    seed: int = 0,
) -> MonteCarlo:
    """Return GER as `gaussian_copula` does, with the Student-t copula: extremes go together.

    Parameters
    ----------
    correlation, p, shift, draws, seed
        As for `gaussian_copula`; the shift moves each slot's chance, p to Phi(Phi^-1(p) - shift).
    degrees : float
        Degrees of freedom, positive; infinite is the Gaussian copula. `fit_degrees` picks one on training
        prompts.

    Raises
    ------
    ValueError
        If `degrees` is not positive.

    Notes
    -----
    All scores of a token share one factor sqrt(degrees / chi^2) (Demarta and McNeil 2005). With no
    correlation slots are still not independent.
    """
    if not degrees > 0:
        raise ValueError(f"degrees must be positive, got {degrees}")
    return _draw(correlation, _marginals(correlation, p, shift), degrees, draws, seed)


def fit_degrees(
    correlation: NDArray[np.float64],
    p: ArrayLike,
    observed: ArrayLike,
    candidates: Sequence[float] = (5, 7, 10, 15, 20, 30, 50, 100, np.inf),
    draws: int = 40_000,
    seed: int = 0,
) -> float:
    """Return the candidate whose Student-t copula is nearest to an observed curve (least squares).

    Parameters
    ----------
    correlation : float64[M, M]
    p : float[n_ratios] or float[M, n_ratios]
        As for `student_copula`; ratios of several prompts may stand side by side.
    observed : float[n_ratios]
        Fraction of the same prompts' tokens gone from all slots. Judge the fit on other prompts.
    candidates, draws, seed
        Degrees tried; draws for each, and their seed.
    """
    target = np.asarray(observed, dtype=float)
    losses = [
        np.sum((student_copula(correlation, p, degrees=d, draws=draws, seed=seed).mean - target) ** 2)
        for d in candidates
    ]
    return float(candidates[int(np.argmin(losses))])


def _marginals(
    correlation: NDArray[np.float64], p: ArrayLike, shift: ArrayLike, spread: ArrayLike = 1.0
) -> Curve:
    """Return each slot's chance to lie below its threshold, float64[M, n_ratios]."""
    slots = len(correlation)
    gone = np.atleast_2d(np.asarray(p, dtype=float))
    gone = np.broadcast_to(gone, (slots, gone.shape[1]))
    offset = np.broadcast_to(np.asarray(shift, dtype=float), (slots,))
    scale = np.broadcast_to(np.asarray(spread, dtype=float), (slots,))
    if not np.all(scale > 0):
        raise ValueError(f"spread must be positive in every slot, got {scale.min():g}")
    if not offset.any() and np.all(scale == 1):
        return gone
    # Tokens asked for lie `shift` higher: the same as thresholds that much lower.
    return np.asarray(ndtr((ndtri(gone) - offset[:, None]) / scale[:, None]))


def _draw(
    correlation: NDArray[np.float64], chance: Curve, degrees: float, draws: int, seed: int
) -> MonteCarlo:
    thresholds = ndtri(chance) if np.isinf(degrees) else stdtrit(degrees, chance)
    # stdtrit is NaN at 0 and 1.
    thresholds = np.where(chance <= 0, -np.inf, np.where(chance >= 1, np.inf, thresholds)).T
    root = square_root(correlation)
    rng = np.random.default_rng(seed)
    hits = np.zeros(chance.shape[1], dtype=np.int64)
    block = 10_000
    for start in range(0, draws, block):
        size = min(block, draws - start)
        scores = rng.standard_normal((size, len(root))) @ root.T
        if not np.isinf(degrees):
            scores /= np.sqrt(rng.chisquare(degrees, (size, 1)) / degrees)
        hits += count_all_below(scores, np.ascontiguousarray(thresholds))
    mean = hits / draws
    return MonteCarlo(mean, np.sqrt(mean * (1 - mean) / draws))


def square_root(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
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
