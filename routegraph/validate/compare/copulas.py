"""Theory of a comparison: copulas of the scores of average tokens and of answer tokens, fitted to training prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from routegraph.theory import ger as theory
from routegraph.theory.ger import Moments
from routegraph.validate.compare.prediction import Curve, Prediction
from routegraph.validate.traces.read_off import ReadOff

#: Gaussian vectors drawn for all slots, and for each layer.
DRAWS = {"model": 40_000, "layer": 10_000}


def fit_tokens(training: Sequence[ReadOff]) -> Moments:
    """Fit the moments of average tokens' normal scores to training prompts: a mean of 0, and how slots go together."""
    correlation = theory.slot_correlation([prompt.normal_scores for prompt in training])
    return Moments(np.zeros(len(correlation)), correlation)


def fit_answers(training: Sequence[ReadOff]) -> Moments | None:
    """Fit the moments of the answer tokens' normal scores to training prompts; None where none has an answer."""
    scores = [prompt.answer_scores for prompt in training]
    if not any(one.shape[1] for one in scores):
        return None
    return theory.answer_moments(scores, fit_tokens(training).covariance)


def predict_tokens(
    moments: Moments, held_out: Sequence[ReadOff], over: str, n_heads: int, seed: int
) -> Prediction:
    """Predict the share of each held-out prompt's evictable tokens that is gone from all slots of a head axis."""
    return _copula(moments, held_out, over, n_heads, seed, DRAWS[over])


def predict_answers(
    moments: Moments,
    held_out: Sequence[ReadOff],
    over: str,
    n_heads: int,
    seed: int,
    draws: Mapping[str, int] = DRAWS,
) -> Prediction:
    """Predict GER of each held-out prompt, of its answer tokens.

    Parameters
    ----------
    moments : Moments
        From `fit_answers`.
    held_out : sequence of ReadOff
        Prompts with answer tokens; a prompt enters by the fraction gone from each of its slots, and by the share of its
        answer tokens that is protected: those stay at every ratio.
    over : {"model", "layer"}
    n_heads : int
        KV heads a layer.
    seed : int
    draws : mapping of head axis to int
        Gaussian vectors, for all slots and for each layer.
    """
    found = _copula(moments, held_out, over, n_heads, seed, draws[over])
    evictable = 1 - np.array([prompt.spared for prompt in held_out])[:, None]
    return Prediction(evictable * found.curves, found.stderr)


def _copula(
    moments: Moments, prompts: Sequence[ReadOff], over: str, n_heads: int, seed: int, draws: int
) -> Prediction:
    """Predict each prompt at its own fractions gone, averaged over groups of slots."""
    slots = len(moments.mean)
    size = slots if over == "model" else n_heads
    gone = np.concatenate([prompt.gone for prompt in prompts], axis=1)
    correlation, spread = moments.correlation, moments.spread
    curves: list[Curve] = []
    errors: list[Curve] = []
    for number, start in enumerate(range(0, slots, size)):
        group = slice(start, start + size)
        estimate = theory.gaussian_copula(
            correlation[group, group],
            gone[group],
            shift=moments.mean[group],
            spread=spread[group],
            draws=draws,
            seed=seed + number,
        )
        curves.append(estimate.mean.reshape(len(prompts), -1))
        # Prompts share the draws, so their errors do not average out; groups do not share them.
        errors.append(estimate.stderr.reshape(len(prompts), -1).mean(axis=0))
    stderr = np.sqrt(np.sum(np.square(errors), axis=0)) / len(curves)
    return Prediction(np.mean(curves, axis=0), stderr)
