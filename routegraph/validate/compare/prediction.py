"""A predicted curve beside the curves that were read off, and how far the two lie apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.critical.points import crossing, half_point
from routegraph.stats import intervals
from routegraph.stats.bootstrap import interval, resample_weights
from routegraph.stats.intervals import Interval, interval_dict, listed, none_of, standard_error
from routegraph.theory import ger as theory

Curve = NDArray[np.float64]


#: Predictions are judged between these ratios: below nothing is lost, above few rows are left.
JUDGED = (0.6, 0.98)


#: Bootstrap resamples of the held-out prompts.
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted curve for each held-out prompt.

    Attributes
    ----------
    curves : float64[n_prompts, n_ratios]
        In the order of the held-out prompts; a prompt enters by its length, the fraction gone from its slots and
        the places of its answer tokens alone.
    stderr : float64[n_ratios] or None
        Standard error of the mean curve over random draws; None where nothing was drawn.
    """

    curves: Curve
    stderr: Curve | None = None

    @property
    def mean(self) -> Curve:
        """Mean over prompts, float64[n_ratios]."""
        return np.asarray(self.curves.mean(axis=0))


def judged(ratios: Curve) -> NDArray[np.bool_]:
    """Return the ratios predictions are judged on: inside `JUDGED` and not used for fitting rho."""
    inside = (ratios >= JUDGED[0] - 1e-9) & (ratios <= JUDGED[1] + 1e-9)
    held_out = np.arange(len(ratios)) % 2 == 1
    return np.asarray(inside & held_out)


def rmse(ratios: Curve, prediction: Prediction, read: Curve) -> float:
    """Return the root mean square difference of the mean curves over the judged ratios; NaN where there is none."""
    apart = (prediction.mean - read.mean(axis=0))[judged(ratios)]
    return float(np.sqrt(np.mean(apart**2))) if len(apart) else float("nan")


def difference(ratios: Curve, prediction: Prediction, read: Curve, seed: int = 0) -> Interval:
    """Return the predicted minus the read-off half point, with a 95 % interval.

    Parameters
    ----------
    ratios : float64[n_ratios]
    prediction : Prediction
    read : float64[n_prompts, n_ratios]
        Curves read off the same prompts, in the same order.
    seed : int
        Seed of the bootstrap: prompts are resampled in pairs, predicted and read off together, so that what both
        owe to a prompt's length cancels. Draws of a simulation differ from prompt to prompt and are resampled
        along with them.

    Returns
    -------
    Interval
        NaN where one of the two curves never crosses one half.
    """
    rows = len(read)
    weights = resample_weights(rows, RESAMPLES if rows > 1 else 0, np.random.default_rng(seed))
    apart = crossing(ratios, weights @ prediction.curves) - crossing(ratios, weights @ read)
    return interval(apart)


def read_off_dict(ratios: Curve, curves: Curve) -> dict[str, Any]:
    """Return curves read off prompts, float64[n_prompts, n_ratios], as JSON-ready values."""
    return {
        "mean": listed(curves.mean(axis=0)),
        "stderr": listed(standard_error(curves)),
        "prompts": len(curves),
        "half_point": interval_dict(half_point(ratios, curves)),
    }


def predicted_dict(ratios: Curve, predictions: Mapping[str, tuple[Prediction, Curve]]) -> dict[str, Any]:
    """Return predictions, each with the curves it is judged on, as JSON-ready values."""
    return {
        name: {
            "mean": listed(prediction.mean),
            "stderr": None if prediction.stderr is None else listed(prediction.stderr),
            "half_point": interval_dict(half_point(ratios, prediction.mean[None])),
            "minus_read_off": interval_dict(difference(ratios, prediction, read)),
            "rmse": none_of(rmse(ratios, prediction, read)),
        }
        for name, (prediction, read) in predictions.items()
    }


#: Predictions for the answer tokens; the others are for evictable tokens.
OF_ANSWERS = ("shifted copula", "simulated answers", "uniform answers")


@dataclass(frozen=True, eq=False)
class AxisComparison:
    """One policy on one head axis: read off, theory, simulation.

    Attributes
    ----------
    over : {"model", "layer"}
    slots : int
        Slots that must all be gone.
    ratios : float64[n_ratios]
    gone : float64[n_ratios]
        Mean fraction of evictable rows gone from a slot, held-out prompts.
    observed : mapping of str to float64[n_prompts, n_ratios]
        "all tokens" and "answer tokens" of every prompt, "evictable tokens" and "answer tokens,
        held out" of the held-out prompts.
    predicted : mapping of str to Prediction
        For the evictable tokens of the held-out prompts; those in `OF_ANSWERS` for their answer tokens.
    rho : float
        One-factor correlation, fitted on training prompts at every other ratio.
    """

    over: str
    slots: int
    ratios: Curve
    gone: Curve
    observed: dict[str, Curve]
    predicted: dict[str, Prediction]
    rho: float

    def target(self, name: str) -> Curve:
        """Return the held-out curves a prediction is judged on, float64[n_prompts, n_ratios]."""
        return self.observed["answer tokens, held out" if name in OF_ANSWERS else "evictable tokens"]

    def judged(self) -> NDArray[np.bool_]:
        """Return the ratios predictions are judged on."""
        return judged(self.ratios)

    def rmse(self, name: str) -> float:
        """Return the root mean square difference of a prediction over the judged ratios."""
        return rmse(self.ratios, self.predicted[name], self.target(name))

    def stderr(self, name: str) -> Curve:
        """Return the standard error over prompts of an observed mean curve, float64[n_ratios]."""
        return standard_error(self.observed[name])

    def prompts(self, name: str) -> int:
        """Return how many prompts an observed mean curve is of."""
        return len(self.observed[name])

    def half(self, name: str) -> Interval:
        """Return the half point of an observed curve, bootstrapped over prompts, or of a prediction."""
        curves = self.observed.get(name)
        return half_point(self.ratios, self.predicted[name].mean[None] if curves is None else curves)

    def difference(self, name: str) -> Interval:
        """Return the predicted minus the read-off half point; prompts are resampled in pairs."""
        return difference(self.ratios, self.predicted[name], self.target(name))

    def spread(self, name: str) -> Interval:
        """Return the half point of a prediction, bootstrapped over the prompts it is for."""
        return half_point(self.ratios, self.predicted[name].curves)

    def effective_slots(self) -> Curve:
        """Return M_eff = ln GER / ln p of the evictable tokens at each ratio, NaN where undefined."""
        return theory.effective_slots(self.observed["evictable tokens"].mean(axis=0), self.gone)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; NaN becomes null."""
        return {
            "head_axis": self.over,
            "slots": self.slots,
            "rho": self.rho,
            "gone": intervals.listed(self.gone),
            "read_off": {name: read_off_dict(self.ratios, curves) for name, curves in self.observed.items()},
            "predicted": predicted_dict(
                self.ratios, {name: (made, self.target(name)) for name, made in self.predicted.items()}
            ),
            "effective_slots": intervals.listed(self.effective_slots()),
        }
