"""How the answer tokens' scores go together: their own mean, spread and correlation, slot by slot.

GER is a mean over prompts of means over a prompt's answer tokens, so every prompt weighs the same here, however many
answer tokens it has. Few prompts say little about a slot: what they say is drawn towards what all slots, and all
tokens, have in common, by as much as the prompts disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Moments(NamedTuple):
    """Mean and covariance of a token's normal scores: float64[M] and float64[M, M], M slots."""

    mean: Values
    covariance: Values

    @property
    def spread(self) -> Values:
        """Standard deviation in each slot, float64[M]."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    @property
    def correlation(self) -> Values:
        """Correlation of the slots, float64[M, M]."""
        return np.asarray(self.covariance / np.outer(self.spread, self.spread))


def answer_moments(scores: Sequence[Values], correlation: Values) -> Moments:
    """Estimate the moments of answer tokens' normal scores from some prompts.

    Parameters
    ----------
    scores : sequence of float64[M, m]
        Normal scores of each prompt's m answer tokens, from `normal_scores`; m may differ, and prompts without any
        are left out.
    correlation : float64[M, M]
        Correlation of the slots over all tokens of these prompts, from `slot_correlation`.

    Returns
    -------
    Moments
        Of one prompt or none: the prompt's mean over slots and tokens, or 0, in every slot, and `correlation`.

    Raises
    ------
    ValueError
        If scores do not have one row a slot.

    Notes
    -----
    Every prompt weighs the same. With P prompts, x_i the mean of prompt i and W_i the mean of
    (z - mean)(z - mean)^T over its tokens, the covariance is mean(W_i) + cov(x_i) / P, where the second term makes up
    for the mean that was estimated. Both moments are shrunk (`shrunk`): the mean of a slot to that of all slots, the
    covariance to the average token's correlation at the answer tokens' mean variance.
    """
    for one in scores:
        if len(one) != len(correlation):
            raise ValueError(f"scores must have one row for each of {len(correlation)} slots, got {len(one)}")
    asked = [one for one in scores if one.shape[1]]
    means = np.array([one.mean(axis=1) for one in asked])
    if len(asked) < 2:
        return Moments(np.full(len(correlation), means.mean() if len(asked) else 0.0), correlation)
    common = means.mean(axis=1, keepdims=True)
    mean = common.mean() + shrunk(means - common, np.zeros(len(correlation)))
    centre = means.mean(axis=0)[:, None]
    squares = np.array([(one - centre) @ (one - centre).T / one.shape[1] for one in asked])
    squares += np.cov(means.T).reshape(correlation.shape) / len(asked)
    variance = np.mean(np.diag(squares.mean(axis=0)))
    return Moments(mean, shrunk(squares, variance * correlation))


def shrunk(samples: Values, target: Values) -> Values:
    """Return the mean of samples, drawn towards a target by the share of the distance that is chance.

    Parameters
    ----------
    samples : float64[n, ...]
        Independent samples, n at least 2.
    target : float64[...]

    Returns
    -------
    float64[...]
        target + (1 - w) (mean - target), w = sum of the squared standard errors of the mean over sum of
        (mean - target)^2, at most 1 (Ledoit and Wolf, J. Multivariate Analysis 88, 365, 2004).
    """
    found = samples.mean(axis=0)
    chance = samples.var(axis=0, ddof=1).sum() / len(samples)
    distance = np.sum((found - target) ** 2)
    weight = min(1.0, chance / distance) if distance > 0 else 1.0
    return np.asarray(target + (1 - weight) * (found - target))
