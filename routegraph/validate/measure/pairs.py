"""Policies beside each other on the same items: over the ratios, and at each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.stats.bootstrap import interval, resample_weights
from routegraph.stats.certified import holm, sign_flips
from routegraph.stats.intervals import Interval, interval_dict
from routegraph.stats.paired import mcnemar, paired_difference
from routegraph.tables import Block, Heading, points, words
from routegraph.validate.measure.answers import Answers
from routegraph.validate.measure.reading import short

Floats = NDArray[np.float64]

#: A difference is shown where its corrected p-value is below.
LEVEL = 0.05
#: Above what is said of pairs on a page.
HEADING = "Policies on the same items, ratio by ratio"
#: What a page says of them.
PAIRS_NOTE = (
    "Policies, ratio by ratio: on the items right at ratio 0, the share still right under the one minus that under "
    "the other, mean over the ratios named; what is told apart holds together (exact sign tests at each ratio, Holm "
    "over all pairs and ratios)."
)
_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Pair:
    """Two policies beside each other.

    Attributes
    ----------
    one, two : str
    difference : Interval
        Share still right of one minus that of two, mean over the ratios.
    p_value : float
        Corrected for the number of pairs.
    ratios : float64[n]
        Ratios above 0.
    values, lows, highs : float64[n]
        The difference at each, with its 95 % interval.
    p_values : float64[n]
        Of each, corrected for the number of pairs times ratios.
    run : tuple of (int, int), optional
        Places of the first and the last of the most ratios in a row at which one is shown to be better, or worse; None
        where no ratio shows anything.
    shown : Interval
        The mean difference there; NaN without a run.
    """

    one: str
    two: str
    difference: Interval
    p_value: float
    ratios: Floats
    values: Floats
    lows: Floats
    highs: Floats
    p_values: Floats
    run: tuple[int, int] | None
    shown: Interval

    @property
    def words(self) -> str:
        """The verdict over all ratios: worse, better, or that these items do not tell."""
        if self.p_value >= LEVEL:
            return "not told apart by these items"
        return f"{self.one} is {'better' if self.difference.value > 0 else 'worse'} than {self.two}"

    @property
    def verdict(self) -> str:
        """The verdict ratio by ratio: where one is better or worse, and by how much there."""
        if self.run is None:
            return f"{self.one} and {self.two} are not told apart at any ratio"
        first, last = self.run
        kind = "better" if self.shown.value > 0 else "worse"
        start, end = short(self.ratios[first]), short(self.ratios[last])
        if (first, last) == (0, len(self.ratios) - 1):
            where = "at every ratio" if last else f"at ratio {start}"
        elif first == last:
            where = f"at ratio {start}"
        elif last == len(self.ratios) - 1:
            where = f"at ratio {start} and above"
        else:
            where = f"at ratios {start} to {end}"
        low, high = _signed(self.shown.low), _signed(self.shown.high)
        return f"{self.one} is {kind} than {self.two} {where}: {_signed(self.shown.value)} [{low}, {high}]"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        told = self.p_values < LEVEL
        return {
            "one": self.one,
            "two": self.two,
            "difference": interval_dict(self.difference),
            "p_value": self.p_value,
            "verdict": self.words,
            "by_ratio": self.verdict,
            "at": [
                {
                    "ratio": float(ratio),
                    "value": float(v),
                    "low": float(a),
                    "high": float(b),
                    "p_value": float(p),
                }
                for ratio, v, a, b, p in zip(
                    self.ratios, self.values, self.lows, self.highs, self.p_values, strict=True
                )
            ],
            "shown_at": self.ratios[told].tolist(),
            "run": None if self.run is None else [float(self.ratios[place]) for place in self.run],
            "run_difference": interval_dict(self.shown),
        }


def compared(found: Answers, policies: Sequence[str] | None = None, seed: int = 0) -> tuple[Pair, ...]:
    """Return every pair of policies beside each other, on the same items right at ratio 0.

    Over all ratios above 0 the difference is that of the shares still right, mean over them; 95 % by bootstrap over
    items, p-values by random signs, corrected for the number of pairs (Holm). At each ratio: 95 % by Tango, exact
    sign tests, corrected for the number of pairs times ratios (Holm), so that all that is shown holds together.

    Parameters
    ----------
    found : Answers
    policies : sequence of str, optional
        All that were measured by default.
    seed : int
        Of bootstrap and random signs.
    """
    places = found.apart[found.apart > 0]
    order = np.argsort(found.ids)  # the bootstrap draws the same items, however they are sorted
    right = found.right[order][found.right[order, 0, 0]][:, :, places]
    pairs = list(combinations(policies or found.policies, 2))
    if len(right) < 2 or not pairs or not len(places):
        return ()
    weights = resample_weights(len(right), _RESAMPLES, np.random.default_rng(seed))
    apart = [
        right[:, found.place_of(one)].astype(float) - right[:, found.place_of(two)] for one, two in pairs
    ]
    flips = [
        [(int((each > 0).sum()), int((each < 0).sum())) for each in table.T] for table in apart
    ]  # items right under the first alone, under the second alone, at each ratio
    overall = holm(sign_flips([table.mean(axis=1) for table in apart], seed=seed))
    raw = np.array([[mcnemar(*pair) for pair in row] for row in flips])
    corrected = holm(raw.ravel()).reshape(raw.shape)
    made = []
    for (one, two), row, table, p, own in zip(pairs, flips, apart, overall, corrected, strict=True):
        values, lows, highs = np.array([paired_difference(*pair, len(right)) for pair in row]).T
        run = widest_run(np.where(own < LEVEL, np.sign(values), 0.0), values)
        nowhere = Interval(np.nan, np.nan, np.nan)
        made.append(
            Pair(
                one=one,
                two=two,
                difference=_mean(table, weights),
                p_value=float(p),
                ratios=found.ratios[places],
                values=values,
                lows=lows,
                highs=highs,
                p_values=own,
                run=run,
                shown=nowhere if run is None else _mean(table[:, run[0] : run[1] + 1], weights),
            )
        )
    return tuple(made)


def widest_run(signs: Floats, values: Floats) -> tuple[int, int] | None:
    """Return first and last place of the most equal signs in a row, 0 aside; of as many, those of larger values."""
    best: tuple[tuple[int, float], tuple[int, int]] | None = None
    start = 0
    for place in range(1, len(signs) + 1):
        if place < len(signs) and signs[place] == signs[start]:
            continue
        if signs[start]:
            rank = place - start, abs(float(values[start:place].mean()))
            if best is None or rank > best[0]:
                best = rank, (start, place - 1)
        start = place
    return None if best is None else best[1]


def areas(found: Answers, seed: int = 0) -> dict[str, Interval]:
    """Return the area under the accuracy curve of every policy, over that of a curve at 1, with 95 % intervals.

    By straight lines between the ratios asked, from 0 to the last; bootstrap over items. Empty for a single ratio.
    """
    at = found.apart
    ratios = found.ratios[at]
    if len(at) < 2:
        return {}
    order = np.argsort(found.ids)
    each = np.trapezoid(found.right[order][:, :, at].astype(float), ratios, axis=2) / (ratios[-1] - ratios[0])
    weights = resample_weights(len(each), _RESAMPLES, np.random.default_rng(seed))
    return {
        policy: interval(weights @ each[:, k], float(each[:, k].mean()))
        for k, policy in enumerate(found.policies)
    }


def areas_dict(found: Answers, seed: int = 0) -> list[dict[str, Any]]:
    """Return `areas` as JSON-ready values."""
    last = float(found.ratios[-1])
    return [
        {"policy": policy, "from": 0.0, "to": last, **interval_dict(area)}
        for policy, area in areas(found, seed).items()
    ]


def area_sentence(told: Sequence[tuple[str, Interval]], last: float) -> str:
    """Return the area under each policy's accuracy curve, the largest first, in a sentence."""
    ranked = sorted(told, key=lambda one: -one[1].value)
    each = ", ".join(
        f"{policy} {_two(area.value)} [{_two(area.low)}, {_two(area.high)}]" for policy, area in ranked
    )
    return f"Area under the accuracy curve, ratio 0 to {short(last)}: {each}."


def verdicts(pairs: Sequence[Pair]) -> list[str]:
    """Return what is shown of each pair, ratio by ratio, a line each; pairs that nothing tells apart in one line."""
    told = [f"{pair.verdict}." for pair in pairs if pair.run is not None]
    same = [f"{pair.one} and {pair.two}" for pair in pairs if pair.run is None]
    return [*told, *([f"Not told apart at any ratio: {'; '.join(same)}."] if same else [])]


def pair_blocks(found: Answers, seed: int = 0) -> tuple[Block, ...]:
    """Return areas and verdicts for a page; nothing where there is one policy, or one ratio."""
    pairs = compared(found, seed=seed)
    if not pairs:
        return ()
    told = area_sentence(list(areas(found, seed).items()), float(found.ratios[-1]))
    return (Heading(HEADING), words(told), points(verdicts(pairs)))


def _mean(table: Floats, weights: Floats) -> Interval:
    """Return the mean over items and ratios with its interval; table float64[n_items, n_ratios]."""
    each = table.mean(axis=1)
    return interval(weights @ each, float(each.mean()))


def _two(value: float) -> str:
    """Return a share in two places, without the nought before its point."""
    return f"{value:.2f}".removeprefix("0") if value < 1 else f"{value:.2f}"


def _signed(value: float) -> str:
    """Return a difference with its sign, and without the nought before its point."""
    return f"{value:+.2f}".replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:+.2f}"
