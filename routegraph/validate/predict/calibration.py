"""From shares to chances: how likely an answer is to break where so much of its support is lost.

P(breaks) = 1 / (1 + exp(-(a + b logit x))), x: `support_lost`, cut off at `CLIP`. How much a reply can lose before it
breaks differs from model to model by far more than from task to task, so a and b of an unknown model are themselves
uncertain: a normal prior over models. Measured answers of the model at hand, if only a few, move it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from routegraph.stats.bootstrap import resample_weights

Floats = NDArray[np.float64]

#: Shares are kept away from 0 and 1 by so much.
CLIP = 1e-3
#: Steps of Newton's method; it has converged long before.
_STEPS = 50
#: Spread of a and b over models where only one is known.
_WIDE = np.diag([4.0, 1.0])
#: Answers that break nowhere or everywhere say little: a weak prior keeps the fit of one model finite.
_WEAK = (np.array([0.0, 2.0]), np.diag([25.0, 4.0]))


@dataclass(frozen=True, eq=False)
class Calibration:
    """A normal distribution of a and b.

    Attributes
    ----------
    mean : float64[2]
        Of a and b.
    covariance : float64[2, 2]
    words : str
        What it was fitted on.
    """

    mean: Floats
    covariance: Floats
    words: str

    def risk(self, lost: Floats) -> Floats:
        """Return how likely each answer is to break, float64[...], by the mean of a and b; `lost`: shares in [0, 1]."""
        return np.asarray(expit(features(lost) @ self.mean))

    def risks(self, lost: Floats, draws: int, rng: np.random.Generator) -> Floats:
        """Return risks by draws of a and b, float64[draws, ...]."""
        drawn = rng.multivariate_normal(self.mean, self.covariance, size=draws, method="eigh")
        return np.asarray(expit(np.tensordot(drawn, features(lost), axes=(1, -1))))

    def kept(self, lost: Floats) -> Floats:
        """Return the share of answers expected to hold, float64[n_ratios]; `lost`: float64[n_items, n_ratios]."""
        return np.asarray(1 - self.risk(lost).mean(axis=0))

    def drawn_kept(self, lost: Floats, draws: int, rng: np.random.Generator) -> Floats:
        """Return the same for draws of a and b, each with items resampled, float64[draws, n_ratios]."""
        risks = self.risks(lost, draws, rng)
        return np.asarray(1 - np.einsum("di,dir->dr", resample_weights(len(lost), draws, rng)[1:], risks))


def features(lost: Floats) -> Floats:
    """Return 1 and the logit of each share, float64[..., 2]."""
    scaled = logit(np.clip(lost, CLIP, 1 - CLIP))
    return np.stack([np.ones_like(scaled), scaled], axis=-1)


def fit(
    lost: Floats, breaks: NDArray[np.bool_], prior: tuple[Floats, Floats] = _WEAK
) -> tuple[Floats, Floats]:
    """Fit a and b to answers that were measured.

    Parameters
    ----------
    lost : float64[n_items, n_variants]
        Shares in [0, 1].
    breaks : bool[n_items, n_variants]
        Which of the answers broke.
    prior : float64[2], float64[2, 2]
        Mean and covariance of a normal prior.

    Returns
    -------
    mean : float64[2]
        The most probable a and b.
    covariance : float64[2, 2]
        Variants of one item are no independent trials: items are what varies (sandwich estimator, clustered by item,
        never below what the prior and independent items would have).

    Raises
    ------
    ValueError
        If there is no answer, or the shapes differ.
    """
    if lost.shape != breaks.shape or lost.ndim != 2 or not lost.size:
        raise ValueError(
            f"shares and answers need one shape of two axes, got {lost.shape} and {breaks.shape}"
        )
    x, y = features(lost), breaks.astype(float)
    centre, spread = prior
    precision = np.linalg.inv(spread)
    at = centre.astype(float)
    for _ in range(_STEPS):
        p = expit(x @ at)
        slope = np.einsum("ivk,iv->k", x, y - p) - precision @ (at - centre)
        curvature = np.einsum("ivk,ivl,iv->kl", x, x, p * (1 - p)) + precision
        step = np.linalg.solve(curvature, slope)
        at = at + step / max(1.0, float(np.abs(step).max()))  # far from the top Newton's step may overshoot
        if np.abs(step).max() < 1e-10:
            break
    by_item = np.einsum("ivk,iv->ik", x, y - expit(x @ at))
    inverse = np.linalg.inv(curvature)
    return at, inverse @ (by_item.T @ by_item + precision) @ inverse


def over_models(fits: Sequence[tuple[Floats, Floats]], words: str) -> Calibration:
    """Return the calibration for a model that nothing was measured of: mean and spread over other models.

    Parameters
    ----------
    fits : sequence of (float64[2], float64[2, 2])
        Of every model, as `fit` returns them.
    words : str

    Notes
    -----
    A further model is as far from the mean as those are from each other, and their mean is itself uncertain: the
    covariance over models times 1 + 1/n.
    """
    centres = np.array([centre for centre, _ in fits])
    if len(centres) < 2:
        return Calibration(centres.mean(axis=0), _WIDE + fits[0][1], words)
    spread = np.cov(centres.T) * (1 + 1 / len(centres))
    return Calibration(centres.mean(axis=0), spread, words)


def updated(known: Calibration, lost: Floats, breaks: NDArray[np.bool_], words: str) -> Calibration:
    """Return a calibration moved by measured answers of the model at hand; parameters as of `fit`."""
    return Calibration(*fit(lost, breaks, (known.mean, known.covariance)), words)
