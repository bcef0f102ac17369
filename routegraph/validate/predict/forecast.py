"""What is predicted, as numbers: shares lost, chances, curves and critical ratios."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from routegraph.critical.points import crossing, crossing_interval
from routegraph.stats.intervals import NOWHERE, Interval
from routegraph.validate.eviction import legend
from routegraph.validate.measure.answers import Answers
from routegraph.validate.predict.calibration import Calibration, updated
from routegraph.validate.predict.defaults import OTHER_MODELS
from routegraph.validate.predict.tries import between

Floats = NDArray[np.float64]

#: The shares that `support_lost` is the mean of; where ratios are tried, the last one is not read.
SHARES = ("routes", "sources", "dependence")
#: Draws of calibration and items behind an interval.
_DRAWS = 500


@dataclass(frozen=True, eq=False)
class Forecast:
    """What is predicted of every prompt, policy and ratio.

    Attributes
    ----------
    settings : mapping
        Model, policies, ratios and all else that the figures depend on.
    ids, item_tasks : tuple of str
        Of every prompt.
    n_context : int64[n_items]
    replies, statements : tuple of str
        The model's own replies with the full cache, and the part of each that answers.
    shares : float64[3 or 2, n_items, n_policies, n_ratios]
        Of `SHARES`, what is lost, in [0, 1]; NaN of a prompt that gets an empty reply, which has nothing to lose.
    calibration : Calibration
        What makes chances of what is lost.
    tried : float64[n_items, n_policies, n_ratios], optional
        Share of its likelihood that a reply loses at the ratios that were tried, NaN elsewhere; None where none was.
    cliffs : mapping of policy to mapping of str to float
        Ratios at which the code of a policy, not physics, builds in a cliff.
    aside : tuple of (str, str)
        Ids of the prompts of this run that were set aside, and why.
    """

    settings: Mapping[str, Any]
    ids: tuple[str, ...]
    item_tasks: tuple[str, ...]
    n_context: NDArray[np.int64]
    replies: tuple[str, ...]
    statements: tuple[str, ...]
    shares: Floats
    calibration: Calibration = OTHER_MODELS[0]
    tried: Floats | None = None
    cliffs: Mapping[str, Mapping[str, float]] | None = None
    aside: tuple[tuple[str, str], ...] = ()

    @property
    def policies(self) -> list[str]:
        """Names of the policies, as asked for."""
        return list(self.settings["policies"])

    @property
    def ratios(self) -> Floats:
        """Sorted compression ratios, the first one 0."""
        return np.array(self.settings["ratios"], dtype=float)

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the order in which they first come."""
        return list(dict.fromkeys(self.item_tasks))

    @property
    def methods(self) -> dict[str, str]:
        """Whose scores and which cut every policy is, in words."""
        return legend(self.policies, int(self.settings["chunk_length"]))

    @property
    def tries(self) -> int:
        """How many ratios of every policy were tried."""
        return int(self.settings.get("tries", 0))

    @property
    def what(self) -> str:
        """What `lost` is a share of: the "support" of a reply or, where ratios were tried, its "likelihood"."""
        return "likelihood" if self.tries else "support"

    @cached_property
    def support_lost(self) -> Floats:
        """The mean of the shares, float64[n_items, n_policies, n_ratios]; NaN without a reply."""
        return np.asarray(self.shares.mean(axis=0))

    @cached_property
    def lost(self) -> Floats:
        """What a reply loses, float64[n_items, n_policies, n_ratios]; NaN without a reply.

        `support_lost`; where ratios were tried, the share of its likelihood, between them along its support.
        """
        return self.support_lost if self.tried is None else between(self.support_lost, self.tried)

    @cached_property
    def spent(self) -> Floats:
        """`lost` as a dial goes by it: 0 at ratio 0; without a reply, infinite at any other."""
        spent = np.where(np.isnan(self.lost), np.inf, self.lost)
        spent[..., 0] = 0.0
        return np.asarray(spent)

    @cached_property
    def risk(self) -> Floats:
        """How likely every answer is to break, float64[n_items, n_policies, n_ratios]; NaN without a reply."""
        return self.calibration.risk(self.lost)

    def kept(self, policy: str, task: str | None = None) -> Floats:
        """Return the share of answers that are expected to hold at every ratio, float64[n_ratios]; NaN of none."""
        lost = self._lost(policy, task)
        return self.calibration.kept(lost) if len(lost) else np.full(len(self.ratios), np.nan)

    def prompts(self, policy: str, task: str | None = None) -> int:
        """Return how many prompts `kept` is of: those of the task that have a reply."""
        return len(self._lost(policy, task))

    @property
    def groups(self) -> list[str | None]:
        """All prompts together, None, and every task by itself where there are several."""
        return [None, *self.tasks] if len(self.tasks) > 1 else [None]

    def band(self, policy: str, task: str | None = None, seed: int = 0) -> tuple[Floats, Floats]:
        """Return the 95 % interval of `kept`, float64[n_ratios] each: prompts and calibration vary."""
        curves = self._curves(policy, task, seed)
        return np.quantile(curves, 0.025, axis=0), np.quantile(curves, 0.975, axis=0)

    def critical(self, policy: str, task: str | None = None, target: float = 0.5, seed: int = 0) -> Interval:
        """Return the ratio at which the share of answers that hold falls through `target`.

        With a 95 % interval over prompts and calibration; NaN where the curve, or more than 2.5 % of the drawn ones,
        do not get there.
        """
        value = float(crossing(self.ratios, self.kept(policy, task), target))
        if np.isnan(value):
            return NOWHERE
        return crossing_interval(value, crossing(self.ratios, self._curves(policy, task, seed), target))

    def thresholds(self, policy: str) -> Floats:
        """Return the ratio from which each answer is more likely to break than not, float64[n_items]; NaN: none."""
        return crossing(self.ratios, self.risk[:, self.policies.index(policy)])

    def dial(self, policy: str, threshold: float) -> Floats:
        """Return the largest ratio of each prompt up to which it loses no more, float64[n_items].

        Parameters
        ----------
        policy : str
        threshold : float
            Share that a reply may lose (see `lost`), in [0, 1]: what `certify` certifies. A prompt without a reply
            takes ratio 0.

        Raises
        ------
        ValueError
            If the policy was not predicted, or the threshold is out of range.
        """
        if policy not in self.policies:
            raise ValueError(f"policy {policy!r} was not predicted; choose from: {', '.join(self.policies)}")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        place = self.policies.index(policy)
        return np.asarray(self.ratios[dialled(self.spent[:, place], np.array([threshold]))[0]])

    def check_same(self, measured: Answers) -> None:
        """Raise ValueError where answers are of another model, were asked in another way, or ids leave a choice."""
        for what, ids in (("predicted", self.ids), ("measured", measured.ids)):
            again, times = Counter(ids).most_common(1)[0]
            if times > 1:
                raise ValueError(
                    f"different prompts that were {what} have the id {again!r}, by which they are matched; give each "
                    "an id of its own"
                )
        for name, words in (("weights", "are of two models"), ("question_aware", "were asked in two ways")):
            if measured.settings.get(name) != self.settings.get(name):
                raise ValueError(
                    f"what was measured has {name} {measured.settings.get(name)!r}, what is predicted "
                    f"{self.settings.get(name)!r}: they {words}; measure and predict with one model in one way"
                )

    def calibrated(self, measured: Answers) -> Self:
        """Return the same with chances calibrated on measured answers of the same model.

        Parameters
        ----------
        measured : Answers
            Answers to some of these prompts, by their ids, under some of these policies and ratios. Those that are
            right at ratio 0 count.

        Raises
        ------
        ValueError
            If it is of another model, was asked in another way, or is of none of these prompts, policies and ratios;
            if different prompts have one id.
        """
        measured.check_unrounded("predict")
        self.check_same(measured)
        lost, breaks = [], []
        by_id = {name: i for i, name in enumerate(self.ids) if not np.isnan(self.lost[i]).any()}
        policies = [name for name in self.policies if name in measured.policies]
        both = [
            (i, k)
            for i, one in enumerate(self.ratios)
            for k, other in enumerate(measured.ratios)
            if one == other > 0
        ]
        for j, name in enumerate(measured.ids):
            if name in by_id and measured.right[j, 0, 0]:
                mine, theirs = (
                    [found.index(p) for p in policies] for found in (self.policies, measured.policies)
                )
                own, other = ([pair[k] for pair in both] for k in (0, 1))
                lost.append(self.lost[by_id[name]][np.ix_(mine, own)].ravel())
                breaks.append(measured.fails[j][np.ix_(theirs, other)].ravel())
        if not lost or not lost[0].size:
            raise ValueError(
                "nothing was measured of these prompts, policies and ratios that is right at ratio 0; measure some of "
                "the same prompts"
            )
        words = f"{len(lost)} measured answers of this model"
        return replace(self, calibration=updated(self.calibration, np.array(lost), np.array(breaks), words))

    def _lost(self, policy: str, task: str | None) -> Floats:
        """Return what the prompts of a task lose that have a reply, float64[n, n_ratios]."""
        chosen = [task is None or own == task for own in self.item_tasks]
        lost = self.lost[chosen, self.policies.index(policy)]
        return np.asarray(lost[~np.isnan(lost).any(axis=1)])

    def _curves(self, policy: str, task: str | None, seed: int) -> Floats:
        """Return curves of drawn calibrations and resampled prompts, float64[draws, n_ratios], drawn once."""
        key = (policy, task, seed)
        if key not in self._drawn:
            lost = self._lost(policy, task)
            self._drawn[key] = (
                self.calibration.drawn_kept(lost, _DRAWS, np.random.default_rng(seed))
                if len(lost)
                else np.full((_DRAWS, len(self.ratios)), np.nan)
            )
        return self._drawn[key]

    @cached_property
    def _drawn(self) -> dict[tuple[str, str | None, int], Floats]:
        return {}


def dialled(lost: Floats, thresholds: Floats) -> NDArray[np.int64]:
    """Return the place of the ratio that the dial takes, int64[n_thresholds, n_items].

    Parameters
    ----------
    lost : float64[n_items, n_ratios]
        What is lost at every ratio, the first one 0, where nothing is.
    thresholds : float64[n_thresholds]
    """
    worst = np.maximum.accumulate(lost, axis=1)
    return np.asarray((worst[None] <= thresholds[:, None, None]).sum(axis=2) - 1)
