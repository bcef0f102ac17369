"""The measured column of a comparison: where answers fail, beside where tokens are gone or out of reach."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.critical.points import half_point
from routegraph.critical.result import CriticalFit
from routegraph.stats.intervals import NOWHERE, Interval, interval_dict, listed, standard_error
from routegraph.trace import Trace
from routegraph.validate.compare.prediction import Curve
from routegraph.validate.eviction import Method
from routegraph.validate.measure.answers import Rates
from routegraph.validate.measure.result import Measured

#: What is measured and shown: the critical ratio of wrong replies, the half point of accuracy.
KINDS = ("wrong", "accuracy")


FAILURE_DEFINITIONS = {
    "measured": "answers of the same model under the same policy, by routegraph measure",
    "measured wrong": "critical ratio: midpoint of a logistic from one level of the rate to another, on the "
    "counts of all items (neither right nor abstained), interval by resampling items; none where the verdict is flat",
    "measured hallucination": "the same of the wrong replies that state another value of the right type, by what the "
    "tasks know; null where they know nothing. Files of earlier versions mean wrong replies by it",
    "measured accuracy": "half point: ratio from which fewer than half of the items that are right at ratio 0 are "
    "right, interpolated between the ratios measured, bootstrap over items; the interval does not know of the gap "
    "between two ratios",
    "minus": "the measured ratio minus a half point of tokens gone or out of reach: different quantities, which need "
    "not agree; intervals put together from the two as independent (Zou and Donner 2008)",
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """How often replies are of one kind, and where that changes.

    Attributes
    ----------
    rates : Rates
    fit : CriticalFit or None
        None where all rates are equal or ratios too few.
    """

    rates: Rates
    fit: CriticalFit | None

    @property
    def critical(self) -> Interval:
        """The critical ratio; NaN without one, as where the rate is the same within its errors (verdict "flat")."""
        if self.fit is None or self.fit.alpha_c is None or self.fit.verdict == "flat":
            return NOWHERE
        low, high = (np.nan if end is None else end for end in self.fit.ci)
        return Interval(self.fit.alpha_c, low, high)

    @property
    def verdict(self) -> str:
        """What the fit says: cliff, gradual, undecided, flat, or no change."""
        return "no change" if self.fit is None else self.fit.verdict

    @property
    def rises(self) -> bool | None:
        """Whether the rate rises through its critical ratio; None without one."""
        if self.fit is None or np.isnan(self.critical.value):
            return None
        return bool(self.fit.details["after"] > self.fit.details["before"])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        rates = self.rates
        return {
            "counts": rates.counts.tolist(),
            "trials": rates.trials,
            "rate": listed(rates.rate),
            "low": listed(rates.low),
            "high": listed(rates.high),
            "critical_ratio": interval_dict(self.critical),
            "verdict": self.verdict,
            "rises": self.rises,
            "fit": None if self.fit is None else self.fit.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Failure:
    """Where the answers of one policy fail.

    Attributes
    ----------
    policy : str
        Its name among those measured.
    ratios : float64[n_ratios]
    wrong : Outcome
        Neither right nor abstained, of all items.
    hallucination : Outcome or None
        Wrong replies that state another value of the right type, of the items whose task knows; None: no task does.
    kept : float64[n_known, n_ratios]
        Of the items right at ratio 0, which are right at this one.
    items, shared : int
        Items measured, and how many of them are prompts of the traces, by their ids.
    """

    policy: str
    ratios: Curve
    wrong: Outcome
    hallucination: Outcome | None
    kept: Curve
    items: int
    shared: int

    @property
    def known(self) -> int:
        """Items that are right at ratio 0."""
        return len(self.kept)

    def kept_error(self) -> Curve:
        """Return the standard error of the share of them that are right, float64[n_ratios]."""
        return standard_error(self.kept)

    def critical(self, kind: str) -> Interval:
        """Return the critical ratio of "wrong" or "hallucination", or the half point of "accuracy"; NaN without one."""
        if kind == "accuracy":
            return half_point(self.ratios, self.kept) if self.known else NOWHERE
        outcome = self.wrong if kind == "wrong" else self.hallucination
        return NOWHERE if outcome is None else outcome.critical

    def to_dict(self, half_points: Iterable[tuple[str, str, str, Interval]]) -> dict[str, Any]:
        """Return JSON-ready values, with the difference from every (quantity, tokens, source, half point)."""
        known = self.known
        return {
            "policy": self.policy,
            "items": self.items,
            "prompts_of_the_trace": self.shared,
            "ratios": listed(self.ratios),
            "wrong": self.wrong.to_dict(),
            "hallucination": None if self.hallucination is None else self.hallucination.to_dict(),
            "accuracy": {
                "right_at_0": known,
                "kept": listed(self.kept.mean(axis=0)) if known else None,
                "stderr": listed(self.kept_error()) if known else None,
                "half_point": interval_dict(self.critical("accuracy")),
            },
            "minus": [
                {
                    "quantity": quantity,
                    "tokens": tokens,
                    "source": source,
                    "half_point": interval_dict(half),
                    **{
                        kind: interval_dict(apart(self.critical(kind), half))
                        for kind in (*KINDS, "hallucination")
                    },
                }
                for quantity, tokens, source, half in half_points
            ],
        }


def apart(one: Interval, other: Interval) -> Interval:
    """Return one critical ratio minus another that was estimated independently, with a 95 % interval.

    Notes
    -----
    The interval is put together from those of the two (method of variance estimates recovery: Zou and Donner,
    Statistics in Medicine 27, 1693, 2008), which need not be symmetric. An end is NaN where one that it needs is.
    """
    gap = one.value - other.value
    below = np.hypot(one.value - one.low, other.high - other.value)
    above = np.hypot(one.high - one.value, other.value - other.low)
    return Interval(float(gap), float(gap - below), float(gap + above))


def read_measured(
    measured: Measured | str | os.PathLike[str], traces: Sequence[Trace], weights: str | None = None
) -> Measured:
    """Return what was measured of the model that traces are of.

    Parameters
    ----------
    measured : Measured or path
        Or the folder that `routegraph measure` wrote.
    traces : sequence of Trace
    weights : str, optional
        Fingerprint of the traces' model, where known: it decides. Otherwise the model's name does.

    Raises
    ------
    ValueError
        If the folder holds no measurement, or one of another model or of other knowledge of the question.
    """
    found = measured if isinstance(measured, Measured) else Measured.load(measured)
    found.check_unrounded("compare")
    if why := mismatch(found.settings, traces, weights):
        raise ValueError(why)
    return found


def mismatch(
    settings: Mapping[str, Any], traces: Sequence[Trace], weights: str | None = None, done: str = "measured"
) -> str:
    """Return why what was measured, or predicted, cannot stand beside traces, in a sentence; nothing where it can."""
    name = traces[0].model
    theirs = settings.get("weights")
    if (theirs != weights) if (weights and theirs) else (settings["model"] != name):
        of = "the same name, other weights" if settings["model"] == name else repr(settings["model"])
        return (
            f"the traces are of model {name!r}, what was {done} is of another: {of}; make both of one model"
        )
    aware = traces[0].question is not None
    if bool(settings["question_aware"]) != aware:
        words = ("question-agnostic", "question-aware")
        return f"the traces are {words[aware]}, what was {done} is {words[not aware]}; make both in one way"
    return ""


def measured_as(
    settings: Mapping[str, Any], traces: Sequence[Trace], method: Method, done: str = "measured"
) -> str | None:
    """Return the name under which a policy on a score table was measured, or predicted; None where it was not.

    Raises
    ------
    ValueError
        If the policy cuts chunks of one length in the traces and of another there.
    """
    length = int(settings["chunk_length"])
    base, _, by_chunk = method.table.partition("/")
    for name in settings["policies"]:
        try:
            other = Method.named(name, length)
        except ValueError:  # a policy of one's own that is not registered now is none of those compared
            continue
        if other.policy != method.policy or (method.scored and other.table.partition("/")[0] != base):
            continue
        if by_chunk and other.table != method.table:
            own = int(traces[0].scorers[method.table]["chunk_length"])
            raise ValueError(
                f"policy {method.policy!r} cuts chunks of {own} in the traces and of {length} in what was {done}; "
                "make both of one length, or compare other policies"
            )
        return str(name)
    return None


def failures(
    measured: Measured | str | os.PathLike[str],
    traces: Sequence[Trace],
    chosen: Mapping[str, Method],
    weights: str | None = None,
    seed: int = 0,
) -> dict[str, Failure]:
    """Return where the answers of each policy fail, of those that were measured.

    Parameters
    ----------
    measured, traces, weights
        As in `read_measured`.
    chosen : mapping of policy to Method
    seed : int

    Raises
    ------
    ValueError
        As `read_measured` and `measured_as` do, before anything is fitted.
    """
    found = read_measured(measured, traces, weights)
    names = {policy: measured_as(found.settings, traces, method) for policy, method in chosen.items()}
    return {policy: failure(found, name, traces, seed) for policy, name in names.items() if name}


def weights_of(path: str | os.PathLike[str]) -> str | None:
    """Return the fingerprint of the model that a trace file is of; None where the file does not tell."""
    model = Trace.provenance(path).get("model")
    return model.get("sha256") if isinstance(model, dict) else None


def failure(measured: Measured, name: str, traces: Sequence[Trace], seed: int = 0) -> Failure:
    """Return where the answers of a measured policy fail."""
    at = measured.policies.index(name)
    right: NDArray[np.bool_] = measured.right[:, at]
    ids = {trace.id for trace in traces}

    def outcome(kind: str) -> Outcome:
        return Outcome(measured.rates(kind, name), measured.critical(name, kind=kind, seed=seed))

    return Failure(
        policy=name,
        ratios=measured.ratios,
        wrong=outcome("wrong"),
        hallucination=outcome("hallucination") if measured.knowing.any() else None,
        kept=right[right[:, 0]].astype(float),
        items=len(measured.ids),
        shared=sum(one in ids for one in measured.ids),
    )
