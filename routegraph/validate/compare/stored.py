"""A comparison as a file tells of it: means, standard errors and half points, without the curves of single prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from routegraph.critical.result import CriticalFit
from routegraph.stats.intervals import Interval, interval_of, of_none, unlisted
from routegraph.validate.compare.failure import Failure, Outcome
from routegraph.validate.compare.foretold import Foretold
from routegraph.validate.compare.policy import PolicyComparison
from routegraph.validate.compare.prediction import AxisComparison, Curve, Prediction
from routegraph.validate.compare.reach import ReachComparison
from routegraph.validate.measure.answers import Rates


@dataclass(frozen=True, eq=False)
class StoredAxis(AxisComparison):
    """A head axis out of a file; `told` is what `AxisComparison.to_dict` made."""

    told: Mapping[str, Any]

    def stderr(self, name: str) -> Curve:
        """Return the standard error over prompts of an observed mean curve, float64[n_ratios]."""
        return unlisted(self.told["read_off"][name]["stderr"])

    def prompts(self, name: str) -> int:
        """Return how many prompts an observed mean curve is of."""
        return int(self.told["read_off"][name]["prompts"])

    def rmse(self, name: str) -> float:
        """Return the root mean square difference of a prediction over the judged ratios."""
        return of_none(self.told["predicted"][name]["rmse"])

    def half(self, name: str) -> Interval:
        """Return the half point of an observed curve, or of a prediction."""
        part = "read_off" if name in self.told["read_off"] else "predicted"
        return interval_of(self.told[part][name]["half_point"])

    def difference(self, name: str) -> Interval:
        """Return the predicted minus the read-off half point."""
        return interval_of(self.told["predicted"][name]["minus_read_off"])

    def spread(self, name: str) -> Interval:
        """Return the half point of a prediction; its interval is not in the file."""
        return self.half(name)

    def effective_slots(self) -> Curve:
        """Return M_eff = ln GER / ln p at each ratio, NaN where undefined."""
        return unlisted(self.told["effective_slots"])

    def to_dict(self) -> dict[str, Any]:
        """Return what the file told."""
        return dict(self.told)


@dataclass(frozen=True, eq=False)
class StoredReach(ReachComparison):
    """Reach out of a file; `told` is what `ReachComparison.to_dict` made."""

    told: Mapping[str, Any]

    def stderr(self) -> Curve:
        """Return the standard error over prompts of the mean curve read off, float64[n_ratios]."""
        return unlisted(self.told["read_off"]["stderr"])

    def half(self, name: str | None = None) -> Interval:
        """Return the half point of a prediction, or of what was read off."""
        told = self.told["read_off"] if name is None else self.told["predicted"][name]
        return interval_of(told["half_point"])

    def spread(self, name: str) -> Interval:
        """Return the half point of a prediction; its interval is not in the file."""
        return self.half(name)

    def difference(self, name: str) -> Interval:
        """Return the predicted minus the read-off half point."""
        return interval_of(self.told["predicted"][name]["minus_read_off"])

    def rmse(self, name: str) -> float:
        """Return the root mean square difference over the judged ratios."""
        return of_none(self.told["predicted"][name]["rmse"])

    def to_dict(self) -> dict[str, Any]:
        """Return what the file told."""
        return dict(self.told)


@dataclass(frozen=True, eq=False)
class StoredFailure(Failure):
    """Where answers fail, out of a file; `told` is what `Failure.to_dict` made."""

    told: Mapping[str, Any]

    @property
    def known(self) -> int:
        """Items that are right at ratio 0."""
        return int(self.told["accuracy"]["right_at_0"])

    def kept_error(self) -> Curve:
        """Return the standard error of the share of them that are right, float64[n_ratios]."""
        return unlisted(self.told["accuracy"]["stderr"])

    def critical(self, kind: str) -> Interval:
        """Return the critical ratio of "wrong" or "hallucination", or the half point of "accuracy"; NaN without one."""
        if kind == "accuracy":
            return interval_of(self.told["accuracy"]["half_point"])
        return super().critical(kind)

    def to_dict(self, half_points: Iterable[tuple[str, str, str, Interval]]) -> dict[str, Any]:
        """Return what the file told."""
        return dict(self.told)


def read_policy(told: Mapping[str, Any], ratios: Curve) -> PolicyComparison:
    """Return one policy of a comparison out of a row of its results.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError
        If the row is not what `Comparison.to_dict` makes.
    """
    axes = {str(axis["head_axis"]): _axis(axis, ratios) for axis in told["axes"]}
    return PolicyComparison(
        policy=str(told["policy"]),
        scorer=str(told["scorer"]),
        axes=axes,
        cliffs={str(name): float(ratio) for name, ratio in told["structural_cliffs"].items()},
        reach=[_reach(reach, ratios) for reach in told["reach"]],
        measured=None if told["measured"] is None else _failure(told["measured"]),
        cut=told.get("cut"),
        foretold=None if told.get("foretold") is None else Foretold.of(told["foretold"]),
    )


def _axis(told: Mapping[str, Any], ratios: Curve) -> AxisComparison:
    return StoredAxis(
        over=str(told["head_axis"]),
        slots=int(told["slots"]),
        ratios=ratios,
        gone=unlisted(told["gone"]),
        observed={name: unlisted(one["mean"])[None] for name, one in told["read_off"].items()},
        predicted=_predicted(told["predicted"]),
        rho=float(told["rho"]),
        told=told,
    )


def _reach(told: Mapping[str, Any], ratios: Curve) -> ReachComparison:
    return StoredReach(
        eps=float(told["eps"]),
        prune=str(told["prune"]),
        tokens=str(told["tokens"]),
        ratios=ratios,
        observed=unlisted(told["read_off"]["mean"])[None],
        predicted=_predicted(told["predicted"]),
        told=told,
    )


def _failure(told: Mapping[str, Any]) -> Failure:
    # Files of earlier versions call hallucination what is called wrong now, and know no other.
    wrong, hallucination = (
        (told["wrong"], told["hallucination"]) if "wrong" in told else (told["hallucination"], None)
    )
    items, kept = int(told["items"]), told["accuracy"]["kept"]
    return StoredFailure(
        policy=str(told["policy"]),
        ratios=unlisted(told["ratios"]),
        wrong=_outcome(wrong, items),
        hallucination=None if hallucination is None else _outcome(hallucination, items),
        kept=np.empty((0, len(told["ratios"]))) if kept is None else unlisted(kept)[None],
        items=items,
        shared=int(told["prompts_of_the_trace"]),
        told=told,
    )


def _outcome(told: Mapping[str, Any], items: int) -> Outcome:
    curves = (unlisted(told[name]) for name in ("rate", "low", "high"))
    rates = Rates(np.array(told["counts"], dtype=np.int64), int(told.get("trials", items)), *curves)
    return Outcome(rates, None if told["fit"] is None else CriticalFit.of(told["fit"]))


def _predicted(told: Mapping[str, Any]) -> dict[str, Prediction]:
    return {
        name: Prediction(
            unlisted(one["mean"])[None], None if one["stderr"] is None else unlisted(one["stderr"])
        )
        for name, one in told.items()
    }
