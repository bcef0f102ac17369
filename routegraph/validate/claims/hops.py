"""Claim C10: whether questions over several facts fail before their tokens are lost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from routegraph.critical.points import crossing
from routegraph.stats.bootstrap import interval
from routegraph.stats.intervals import Interval
from routegraph.validate.claims.case import (
    FAILS,
    FLOOR,
    HOLDS,
    LEAST_ITEMS,
    UNDECIDED,
    UNTESTABLE,
    Array,
    Case,
    Claim,
    conclude,
    known,
    share_of,
    show,
    weights,
    widened,
    would_decide,
)
from routegraph.validate.claims.items import each, group_of, hops_of, judged, label, task_of
from routegraph.validate.claims.pairs import NOTHING
from routegraph.validate.measure.answers import LEAST
from routegraph.validate.measure.result import Measured

#: Facts of which less than this is gone are still there.
THERE = 0.25
#: The fact that lost most, gone from all heads of a layer, mean over layers.
LOST = "ger_worst_fact_layer"

Flags = NDArray[np.bool_]


def multi_hop(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C10: multi-hop answers fail before tokens are lost."""

    def judge(found: Measured) -> Iterator[Case]:
        pairs = hop_pairs(found)
        if not pairs:
            yield Case(label(found), UNTESTABLE, "needs one-hop and multi-hop questions of one task")
        for name, (one, many) in pairs.items():
            yield _start_case(one, many, label(found, name, "at ratio 0"))
            for policy in judged(found):
                yield from _evicted_cases(one, many, policy, label(found, name, policy), seed)

    return conclude(
        "C10",
        "Multi-hop answers fail before tokens are lost",
        "One-hop against multi-hop questions of the same task and direction. (at ratio 0) Accuracy of "
        "multi-hop minus one-hop, items within the lengths of context that both have: holds below 0, does "
        f"not where the interval lies above -{NOTHING:g}; the one-hop questions must be above the floor. "
        "(earlier) Items right at ratio 0, both kinds above the floor: ratio at which half are lost, "
        "multi-hop minus one-hop: holds below 0, does not above. (tokens there) The same items at equal "
        f"ratio, where GER by layer of the fact that lost most is below {THERE:g}: share of lost answers, "
        f"multi-hop minus one-hop: holds above 0, does not where the interval lies below {NOTHING:g}.",
        "multi-hop minus one-hop: accuracy, ratio, share lost",
        "both figures that the difference is of",
        each(sources, judge),
        why="the paper reports low accuracy at ratio 0, so such groups count, but they may be the model's "
        "failure and not the eviction's, which the other parts ask about; GER over all slots is near 0 until "
        "the last ratios, whatever becomes of the answer, and is no evidence",
    )


def hop_pairs(found: Measured) -> dict[str, tuple[Measured, Measured]]:
    """Return the answerable one-hop and multi-hop items of every task and direction that has both."""
    places: dict[str, tuple[list[int], list[int]]] = {}
    for item in np.flatnonzero(found.answerable).tolist():
        places.setdefault(_kin(found, item), ([], []))[hops_of(found, item) > 1].append(item)
    return {
        name: (found.only(one), found.only(many))
        for name, (one, many) in places.items()
        if len(one) >= LEAST_ITEMS and len(many) >= LEAST_ITEMS
    }


def _kin(found: Measured, item: int) -> str:
    """Return task and direction; the small language has tasks of its own for chains of facts."""
    task = task_of(found, item)
    return "words" if task == "forward" or task.endswith("_hop") else group_of(found, item)


def _right(found: Measured) -> Interval:
    return share_of(int(found.right[:, 0, 0].sum()), len(found.ids))


def difference(a: Interval, b: Interval) -> Interval:
    """Return a - b of two independent shares, with the interval that Newcombe (1998, method 10) makes of theirs."""
    apart = a.value - b.value
    down = math.hypot(a.value - a.low, b.high - b.value)
    return Interval(apart, apart - down, apart + math.hypot(a.high - a.value, b.value - b.low))


def _start_case(one: Measured, many: Measured, where: str) -> Case:
    low = max(one.n_context.min(), many.n_context.min())
    high = min(one.n_context.max(), many.n_context.max())
    fitting = [(m.n_context >= low) & (m.n_context <= high) for m in (one, many)]
    if min(own.sum() for own in fitting) < LEAST_ITEMS:
        return Case(where, UNTESTABLE, "needs one-hop and multi-hop questions on contexts of equal lengths")
    one, many = (m.only(own) for m, own in zip((one, many), fitting, strict=True))
    first, several = _right(one), _right(many)
    beside = (
        f"multi-hop {show(several)} of {len(many.ids)} (median {np.median(many.n_context):g} rows), one-hop "
        f"{show(first)} of {len(one.ids)} ({np.median(one.n_context):g} rows)"
    )
    if first.value < FLOOR:
        return Case(where, UNTESTABLE, "one-hop questions are at floor", beside)
    apart = difference(several, first)
    verdict = HOLDS if apart.high < 0 else FAILS if apart.low > -NOTHING else UNDECIDED
    told = (
        f"accuracy of multi-hop minus one-hop {show(apart)}{would_decide(verdict, apart, 0, len(many.ids))}"
    )
    return Case(
        where, verdict, told, beside, apart, {"multi_hop": several._asdict(), "one_hop": first._asdict()}
    )


def _evicted_cases(one: Measured, many: Measured, policy: str, where: str, seed: int) -> Iterator[Case]:
    shares = [_right(m) for m in (one, many)]
    if min(share.value for share in shares) < FLOOR:
        told = f"at floor: one-hop {show(shares[0])}, multi-hop {show(shares[1])} right at ratio 0"
        for part in ("earlier", "tokens there"):
            yield Case(f"{where}, {part}", UNTESTABLE, told)
        return
    one, many = (m.only(m.right[:, 0, 0]) for m in (one, many))
    yield _earlier_case(one, many, policy, f"{where}, earlier", seed)
    yield _there_case(one, many, policy, f"{where}, tokens there", seed)


def _earlier_case(one: Measured, many: Measured, policy: str, where: str, seed: int) -> Case:
    half_one, half_many = half_lost(one, policy, seed), half_lost(many, policy, seed + 1)
    apart, n = interval(half_many - half_one), len(many.ids)
    first, several = interval(half_one), interval(half_many)
    told = f"half lost at {show(apart, 3)} from one-hop's; {n} items"
    beside = f"multi-hop {show(several, 3)}, one-hop {show(first, 3)} ({len(one.ids)} items)"
    numbers = {"multi_hop": several._asdict(), "one_hop": first._asdict(), "items": n}
    if not known(apart):
        return Case(where, UNTESTABLE, "never are half of the answers lost", beside, numbers=numbers)
    verdict = HOLDS if apart.high < 0 else FAILS if apart.low > 0 else UNDECIDED
    return Case(where, verdict, told + would_decide(verdict, apart, 0, n), beside, apart, numbers)


def _there_case(one: Measured, many: Measured, policy: str, where: str, seed: int) -> Case:
    tables = [_there(m, policy) for m in (one, many)]
    if any(table is None for table in tables):
        return Case(
            where, UNTESTABLE, "needs GER of evidence facts: measure --metrics, of prompts with evidence"
        )
    parts = [
        (draws @ alive, draws @ (alive & lost))
        for draws, (alive, lost) in (
            (weights(len(table[0]), seed + k), table) for k, table in enumerate(tables) if table is not None
        )
    ]
    (n_one, lost_one), (n_many, lost_many) = parts
    counts = [table[0].sum(axis=0) for table in tables if table is not None]
    enough = (np.minimum(*counts) >= LEAST) & (np.arange(len(one.ratios)) > 0)
    if not enough.any():
        told = f"needs ratios at which {LEAST} items of both kinds have their facts"
        return Case(where, UNTESTABLE, told)
    # Each ratio weighs as the multi-hop items that have their facts there.
    times = n_many[:, enough] / n_many[:, enough].sum(axis=1, keepdims=True)
    several = (times * lost_many[:, enough] / np.maximum(n_many[:, enough], 1e-12)).sum(axis=1)
    first = (times * lost_one[:, enough] / np.maximum(n_one[:, enough], 1e-12)).sum(axis=1)
    n = len(many.ids)
    apart = widened(interval(several - first), min(n, len(one.ids)))
    verdict = HOLDS if apart.low > 0 else FAILS if apart.high < NOTHING else UNDECIDED
    told = (
        f"facts there, {show(apart)} more lost than of one-hop; {n} items, ratios "
        f"{', '.join(f'{ratio:g}' for ratio in one.ratios[enough])}{would_decide(verdict, apart, 0, n)}"
    )
    beside = (
        f"multi-hop {show(interval(several))} lost, one-hop {show(interval(first))} ({len(one.ids)} items)"
    )
    numbers = {"one_hop": interval(first)._asdict(), "multi_hop": interval(several)._asdict(), "items": n}
    return Case(where, verdict, told, beside, apart, numbers)


def _there(found: Measured, policy: str) -> tuple[Flags, Flags] | None:
    """Return where an item has its facts, and where its answer is lost, bool[n_items, n_ratios]; None: not measured."""
    place, values = found.place_of(policy), found.metrics.get(LOST)
    if values is None or not np.isfinite(values[:, place]).all(axis=1).any():
        return None
    return np.nan_to_num(values[:, place], nan=1.0) < THERE, ~found.right[:, place]


def half_lost(right: Measured, policy: str, seed: int = 0) -> Array:
    """Return where half of the items right at ratio 0 are lost, float64[1 + resamples], resamples of the items."""
    lost = weights(len(right.ids), seed) @ ~right.right[:, right.place_of(policy)]
    return np.asarray(crossing(right.ratios, lost, 0.5))
