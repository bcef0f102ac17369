"""Claims that set two things side by side: knowing the question (C8), two presses (C11)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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
    mean_of,
    share_of,
    show,
    would_decide,
)
from routegraph.validate.claims.cliff import LEAST_WRONG, too_few_wrong
from routegraph.validate.claims.items import (
    AT_FLOOR,
    BASELINE,
    PAPER_POLICIES,
    between,
    each,
    family_of,
    floors,
    judged,
    label,
    nearest,
    standing,
    task_of,
)
from routegraph.validate.measure.result import Measured

#: "Moderate" ratios, for C8 and for C11.
MODERATE, MIDDLE = (0.4, 0.8), (0.5, 0.7)
#: A difference smaller than this counts as none.
NOTHING = 0.05
#: Two policies within this of each other have converged.
CONVERGED = 0.1
#: Two runs that agree in these asked the same model in the same way, but for what the scores knew.
SAME = ("model", "weights", "chat", "system", "ask", "prefix", "stop", "max_new_tokens", "grader")


def question_aware(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C8: question-aware pruning helps retrieval and hurts abstention."""
    cases = [
        replace(case, family=family_of(agnostic))
        for agnostic, aware in pairs(sources)
        for case in _aware_cases(agnostic, aware, seed)
    ]
    return conclude(
        "C8",
        "Question-aware pruning helps retrieval and hurts abstention",
        f"The same items asked both ways, aware minus agnostic, paired, mean over ratios {MODERATE[0]:g} to "
        f"{MODERATE[1]:g}; the question is asked again after the eviction either way. (retrieval) Right "
        "answers in groups above the floor both ways; (abstention) abstentions from the unanswerable, of "
        f"tasks in which at least {FLOOR:g} of them are met so at ratio 0 both ways. Each holds where the "
        "interval lies on the claimed side of 0, and does not where it ends before a difference of "
        f"{NOTHING:g} to that side.",
        "aware minus agnostic",
        "the same difference at ratio 0, and under random eviction, whose scores know no question",
        cases,
        needed="two runs of measure on the same model and items, one of them with --question-aware",
        notes=unpaired(sources),
        why="the paper gives differences of 15 and 27 points, and .05 is a third of the smaller; what "
        "differs at ratio 0 already is the wording's and not the pruning's",
    )


def pairs(sources: Sequence[Measured]) -> list[tuple[Measured, Measured]]:
    """Return the agnostic and question-aware runs of the same model, cut to their common items and ratios."""
    found = []
    for agnostic in sources:
        for aware in sources:
            if agnostic.settings["question_aware"] or not aware.settings["question_aware"]:
                continue
            common = sorted(set(agnostic.ids) & set(aware.ids))
            ratios = np.intersect1d(agnostic.ratios, aware.ratios)
            if _same_model(agnostic, aware) and common:
                found.append((_cut(agnostic, common, ratios), _cut(aware, common, ratios)))
    return found


def unpaired(sources: Sequence[Measured]) -> list[str]:
    """Return a sentence for every question-aware run that has no agnostic partner."""
    return [
        f"{label(aware)}: no agnostic run of the same model and items was given"
        for aware in sources
        if aware.settings["question_aware"]
        and not any(
            _same_model(other, aware) and set(other.ids) & set(aware.ids)
            for other in sources
            if not other.settings["question_aware"]
        )
    ]


def _same_model(a: Measured, b: Measured) -> bool:
    return all(a.settings.get(name) == b.settings.get(name) for name in SAME)


def _cut(found: Measured, ids: Sequence[str], ratios: Array) -> Measured:
    """Return the answers to some items, in that order, at some ratios; without replies and metrics."""
    places = {name: i for i, name in enumerate(found.ids)}
    items = found.only([places[name] for name in ids])
    at = np.searchsorted(found.ratios, ratios)
    settings = {**found.settings, "ratios": ratios.tolist(), "keep": []}
    right, abstained = items.right[..., at], items.abstained[..., at]
    return replace(
        items, settings=settings, right=right, abstained=abstained, replies=((),) * len(ids), metrics={}
    )


def _aware_cases(agnostic: Measured, aware: Measured, seed: int) -> Iterator[Case]:
    chosen = between(agnostic, *MODERATE)
    stands, abstains = ([test(m) for m in (agnostic, aware)] for test in (_standing, _abstaining))
    parts = (
        ("retrieval", stands, 1, AT_FLOOR),
        (
            "abstention",
            abstains,
            -1,
            f"needs a task of whose unanswerable items {FLOOR:g} are met by abstention",
        ),
    )
    for policy in judged(agnostic):
        if policy not in aware.policies:
            continue
        for what, both, sign, needed in parts:
            where, items = label(agnostic, policy, what), both[0] & both[1]
            if not items.any() or not chosen.any():
                counts = [
                    f"{show(share_of(int(m.right[~m.answerable, 0, 0].sum()), int((~m.answerable).sum())))} {name}"
                    for m, name in ((agnostic, "agnostic"), (aware, "aware"))
                ]
                told = f"; at ratio 0 {', '.join(counts)}" if sign < 0 else ""
                yield Case(
                    where, UNTESTABLE, (needed if chosen.any() else "needs ratios from .4 to .8") + told
                )
            else:
                yield _aware_case(agnostic, aware, policy, where, items, chosen, sign, seed)


def _standing(found: Measured) -> NDArray[np.bool_]:
    """Return which items are answerable and of groups above the floor."""
    items = standing(found).items
    kept = set() if items is None else set(items.ids)
    return np.array([name in kept for name in found.ids])


def _abstaining(found: Measured) -> NDArray[np.bool_]:
    """Return which items are unanswerable, and of tasks in which enough of them are met by abstention at ratio 0."""
    kept = np.zeros(len(found.ids), dtype=bool)
    tasks = np.array([task_of(found, i) for i in range(len(found.ids))])
    for task in dict.fromkeys(tasks.tolist()):
        own = ~found.answerable & (tasks == task)
        if own.sum() >= LEAST_ITEMS and found.right[own, 0, 0].mean() >= FLOOR:
            kept |= own
    return kept


def _aware_case(
    agnostic: Measured,
    aware: Measured,
    policy: str,
    where: str,
    items: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    sign: int,
    seed: int,
) -> Case:
    n = int(items.sum())
    before, after = (_mean_right(m, policy, items, chosen) for m in (agnostic, aware))
    gain = mean_of(after - before, seed)
    start = mean_of(aware.right[items, 0, 0].astype(float) - agnostic.right[items, 0, 0], seed)
    verdict = _signed(gain, sign)
    beside = f"at ratio 0: {show(start)}"
    if BASELINE in agnostic.policies and BASELINE in aware.policies:
        plain = [_mean_right(m, BASELINE, items, chosen) for m in (agnostic, aware)]
        beside += f"; random: {show(mean_of(plain[1] - plain[0], seed))}"
    told = (
        f"{show(mean_of(before, seed, 0))} agnostic, {show(mean_of(after, seed, 0))} aware, difference "
        f"{show(gain)}; {n} items{would_decide(verdict, gain, 0, n)}"
    )
    return Case(where, verdict, told, beside, gain, {"items": n, "at_0": start._asdict()})


def _mean_right(found: Measured, policy: str, items: NDArray[np.bool_], ratios: NDArray[np.bool_]) -> Array:
    return np.asarray(found.right[items, found.policies.index(policy)][:, ratios].mean(axis=1))


def _signed(found: Interval, sign: int) -> str:
    low, high = sorted((sign * found.low, sign * found.high))
    if low > 0:
        return HOLDS
    return FAILS if high < NOTHING else UNDECIDED


# --- presses --------------------------------------------------------------------------------------------


def presses(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C11: chunk and AdaKV differ at moderate ratios and converge at .9."""

    def judge(found: Measured) -> Iterator[Case]:
        if not set(PAPER_POLICIES) <= set(found.policies) or not found.answerable.any():
            return
        items, end = standing(found).items, nearest(found, 0.9, 0.011)
        parts = [("at .5 to .7", between(found, *MIDDLE))]
        parts += [("at .9", np.arange(len(found.ratios)) == end)] if end is not None else []
        for words, chosen in parts:
            if items is None:
                yield Case(label(found, words), UNTESTABLE, AT_FLOOR)
            elif chosen.any():
                yield _press_case(items, label(found, words), chosen, "to" in words, seed)

    return conclude(
        "C11",
        "Chunk and AdaKV differ at moderate ratios and converge at .9",
        "Wrong replies of chunk minus those of adakv, paired by item, groups above the floor. At .5 to .7 "
        f"(mean): holds where the interval leaves out 0, does not where it lies within {NOTHING:g} of 0. At "
        f".9: holds where it lies within {CONVERGED:g} of 0, does not where it lies wholly beyond "
        f"{NOTHING:g}. Not testable where wrong replies stay below {LEAST_WRONG:g}.",
        "chunk - adakv",
        "adakv - random",
        each(sources, judge),
        notes=floors(sources),
        why="to differ needs a difference, to converge a small one: a tenth is what 100 items can tell",
    )


def _press_case(items: Measured, where: str, chosen: NDArray[np.bool_], differ: bool, seed: int) -> Case:
    apart, right = (_apart(items, kind, chosen, seed) for kind in ("wrong", "accuracy"))
    n = len(items.ids)
    told = f"wrong replies, chunk - adakv {show(apart)}; accuracy {show(right)}; {n} items"
    plain = ""
    if BASELINE in items.policies:
        plain = f"adakv - random {show(_apart(items, 'wrong', chosen, seed, 'adakv', BASELINE))}"
    numbers = {"accuracy": right._asdict(), "items": n}
    problems = [too_few_wrong(items, policy) for policy in PAPER_POLICIES]
    if all(problems):
        return Case(where, UNTESTABLE, f"{problems[0]}; {told}", plain, apart, numbers)
    verdict = _differ(apart) if differ else _converge(apart)
    told += would_decide(verdict, apart, 0 if differ else CONVERGED, n)
    return Case(where, verdict, told, plain, apart, numbers)


def _apart(
    found: Measured, kind: str, chosen: NDArray[np.bool_], seed: int, a: str = "chunk", b: str = "adakv"
) -> Interval:
    table = found.of(kind)[:, :, chosen].mean(axis=2)
    return mean_of(table[:, found.policies.index(a)] - table[:, found.policies.index(b)], seed)


def _differ(apart: Interval) -> str:
    if apart.low > 0 or apart.high < 0:
        return HOLDS
    return FAILS if max(abs(apart.low), abs(apart.high)) < NOTHING else UNDECIDED


def _converge(apart: Interval) -> str:
    if max(abs(apart.low), abs(apart.high)) < CONVERGED:
        return HOLDS
    return FAILS if apart.low > NOTHING or apart.high < -NOTHING else UNDECIDED
