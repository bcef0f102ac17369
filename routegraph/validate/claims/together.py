"""Claim C3: whether GER tells the items that go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from routegraph.stats.auc import Resampled, resampled_auc
from routegraph.stats.bootstrap import interval
from routegraph.validate.claims.case import (
    FAILS,
    HOLDS,
    UNDECIDED,
    UNTESTABLE,
    Array,
    Case,
    Claim,
    conclude,
    known,
    show,
    weights,
    would_decide,
)
from routegraph.validate.claims.cliff import too_few_wrong
from routegraph.validate.claims.items import AT_FLOOR, each, floors, group_of, judged, label, standing
from routegraph.validate.measure.answers import LEAST
from routegraph.validate.measure.metrics import METRICS
from routegraph.validate.measure.result import Measured

#: GER tells the items that go wrong where the AUC is larger; two standard normals .74 apart have it.
TELLING = 0.7
#: Known before anything is evicted: which of them does better is the baseline.
CHEAP = ("n_context", "margin_at_0")
#: The two readings of "globally evicted".
READINGS: Mapping[str, str] = {"model": "GER all slots", "layer": "GER by layer"}


def together(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C3: GER and hallucination move together."""

    def judge(found: Measured) -> Iterator[Case]:
        right = standing(found).right
        for policy in judged(found):
            for axis, words in READINGS.items():
                where = label(found, policy, words)
                values = _values(right, policy, f"ger_answer_{axis}")
                problem = AT_FLOOR if right is None else too_few_wrong(right, policy)
                if right is None or values is None or problem:
                    needed = "needs GER of the answer tokens: measure --metrics, of prompts with answer spans"
                    yield Case(where, UNTESTABLE, problem or needed)
                else:
                    yield _case(right, policy, values, where, seed)

    return conclude(
        "C3",
        "GER and the hallucination rate move together (the paper: r = .79 to .93)",
        "At equal policy, ratio, task and direction, among items right at ratio 0: AUC by which GER of the "
        "answer tokens tells the wrong ones from those still right. Holds where its interval lies above "
        f"{TELLING:g} and it is larger than that of the better of two things known before, context length and "
        f"margin at ratio 0 (paired); does not where it ends below {TELLING:g}, or is smaller. Both readings "
        "of the head axis. Not testable where wrong replies stay below .2.",
        "AUC of GER at equal ratio",
        "what is known before, and r over the ratios: of GER, and of the ratio itself",
        each(sources, judge),
        notes=floors(sources),
        why="two rising curves always correlate, the ratio itself included, so r proves nothing; if GER "
        "matters, then of two questions under the same eviction the one whose answer tokens are gone fails. "
        ".7 is lenient: a correlation of about .35 between items",
    )


def _values(right: Measured | None, policy: str, metric: str) -> Array | None:
    """Return a metric of a policy, float64[n_items, n_ratios]; None where no item has it at all ratios."""
    if right is None or metric not in right.metrics:
        return None
    found = right.metrics[metric][:, right.place_of(policy)]
    return found if np.isfinite(found).all(axis=1).any() else None


def _case(right: Measured, policy: str, values: Array, where: str, seed: int) -> Case:
    found = _auc(right, policy, values, seed)
    auc = interval(found.shares)
    if not known(auc):
        told = f"too few pairs: needs {LEAST} wrong items and {LEAST} right ones of a group at one ratio"
        return Case(where, UNTESTABLE, told)
    name, cheap = _cheapest(right, policy, values, seed)
    ahead = interval(found.shares - cheap.shares)
    verdict = UNDECIDED
    if auc.low > TELLING and ahead.low > 0:
        verdict = HOLDS
    elif auc.high < TELLING or ahead.high < 0:
        verdict = FAILS
    by_tell = abs(auc.value - TELLING) < abs(ahead.value) or ahead.low > 0
    why = would_decide(verdict, *((auc, TELLING) if by_tell else (ahead, 0.0)), found.items)
    told = f"AUC {show(auc)} ({found.pairs} pairs, {found.cells} cells, {found.items} items){why}"
    given = np.isfinite(values).all(axis=1)
    draws = weights(int(given.sum()), seed)
    wrong = draws @ right.of("wrong")[given, right.place_of(policy)].astype(float)
    ratio = np.broadcast_to(right.ratios, wrong.shape)
    r = correlation(draws @ values[given], wrong)
    alone = correlation(ratio, wrong)
    beside = (
        f"{name} {show(interval(cheap.shares))}, GER {show(ahead)} more; r {show(interval(r))}, of the ratio "
        f"itself {show(interval(alone))}"
    )
    numbers = {
        "r": interval(r)._asdict(),
        "r_ratio": interval(alone)._asdict(),
        "ahead": interval(r - alone)._asdict(),
        "pairs": found.pairs,
        "cheap": name,
        "cheap_auc": interval(cheap.shares)._asdict(),
        "ahead_of_cheap": ahead._asdict(),
        "items": found.items,
    }
    return Case(where, verdict, told, beside, auc, numbers)


def _auc(right: Measured, policy: str, values: Array, seed: int) -> Resampled:
    """Return the AUC of values for wrong against right replies, within cells of a ratio and a group."""
    place, names = right.place_of(policy), np.array([group_of(right, i) for i in range(len(right.ids))])
    wrong, told = right.of("wrong")[:, place], ~right.abstained[:, place] | right.right[:, place]

    def cells() -> Iterator[tuple[NDArray[np.int64], Array, NDArray[np.bool_]]]:
        for name in dict.fromkeys(names.tolist()):
            for k in range(1, len(right.ratios)):
                items = np.flatnonzero((names == name) & told[:, k])
                yield items, values[items, k], wrong[items, k]

    return resampled_auc(cells(), len(right.ids), least=LEAST, seed=seed)


def _cheapest(right: Measured, policy: str, values: Array, seed: int) -> tuple[str, Resampled]:
    """Return which of `CHEAP` tells the wrong ones best, of the same items, and its AUC."""
    aucs = {}
    for name in CHEAP:
        cheap = _values(right, policy, name)
        if cheap is None and name == "n_context":
            cheap = np.repeat(right.n_context[:, None].astype(float), len(right.ratios), axis=1)
        if cheap is not None:
            signed = METRICS[name].sign * cheap
            aucs[name] = _auc(right, policy, np.where(np.isfinite(values), signed, np.nan), seed)
    best = max(aucs, key=lambda name: float(np.nan_to_num(aucs[name].shares[0], nan=-1)))
    return best, aucs[best]


def correlation(a: Array, b: Array) -> Array:
    """Return Pearson's r of rows, float64[...]; NaN where one is constant."""
    x, y = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    size = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return np.where(size > 1e-15, (x * y).sum(axis=-1) / np.maximum(size, 1e-15), np.nan)
