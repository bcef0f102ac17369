"""The predicted column of a comparison: by which ratio answers break, as `routegraph predict` has it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routegraph.stats.intervals import Interval, interval_dict, interval_of, listed, unlisted
from routegraph.trace import Trace
from routegraph.validate.compare.failure import measured_as, mismatch
from routegraph.validate.compare.prediction import Curve
from routegraph.validate.eviction import Method
from routegraph.validate.predict.result import Predicted


@dataclass(frozen=True, eq=False)
class Foretold:
    """Which share of the answers given with the full cache is expected to hold under one policy.

    Attributes
    ----------
    ratios, kept, low, high : float64[n_ratios]
        With a 95 % interval.
    half : Interval
        Ratio at which `kept` falls through one half.
    prompts : int
    calibrated_on : str
    """

    ratios: Curve
    kept: Curve
    low: Curve
    high: Curve
    half: Interval
    prompts: int
    calibrated_on: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        curves = {name: listed(getattr(self, name)) for name in ("ratios", "kept", "low", "high")}
        return {
            **curves,
            "half_point": interval_dict(self.half),
            "prompts": self.prompts,
            "calibrated_on": self.calibrated_on,
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Foretold:
        """Return what `to_dict` told."""
        curves = {name: unlisted(told[name]) for name in ("ratios", "kept", "low", "high")}
        half = interval_of(told["half_point"])
        return cls(
            **curves, half=half, prompts=int(told["prompts"]), calibrated_on=str(told["calibrated_on"])
        )


def foretellings(
    predicted: Predicted | str | os.PathLike[str],
    traces: Sequence[Trace],
    chosen: Mapping[str, Method],
    weights: str | None = None,
    seed: int = 0,
) -> dict[str, Foretold]:
    """Return what is predicted of each policy, of those that were.

    Parameters
    ----------
    predicted : Predicted or path
        Or the folder that `routegraph predict` wrote.
    traces : sequence of Trace
    chosen : mapping of policy to Method
    weights : str, optional
        Fingerprint of the traces' model; its name decides without.
    seed : int

    Raises
    ------
    ValueError
        If the folder holds no prediction, or one of another model or of other knowledge of the question.
    """
    found = predicted if isinstance(predicted, Predicted) else Predicted.load(predicted)
    if why := mismatch(found.settings, traces, weights, "predicted"):
        raise ValueError(why)
    names = {
        policy: measured_as(found.settings, traces, method, "predicted") for policy, method in chosen.items()
    }
    return {policy: _foretold(found, name, seed) for policy, name in names.items() if name}


def _foretold(found: Predicted, policy: str, seed: int) -> Foretold:
    low, high = found.band(policy, seed=seed)
    half = found.critical(policy, seed=seed)
    return Foretold(
        found.ratios, found.kept(policy), low, high, half, found.prompts(policy), found.calibration.words
    )
