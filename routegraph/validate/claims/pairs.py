"""Claims that set two things side by side: knowing the question (C8), one hop and two (C10), two presses (C11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from routegraph.critical.points import crossing
from routegraph.stats.bootstrap import interval
from routegraph.stats.intervals import Interval
from routegraph.validate.claims.case import (
    BASELINE,
    FAILS,
    FLOOR,
    HOLDS,
    PAPER_POLICIES,
    UNDECIDED,
    UNTESTABLE,
    Array,
    Case,
    Claim,
    above,
    between,
    conclude,
    group_of,
    hops_of,
    judged,
    label,
    mean_of,
    nearest,
    show,
    weights,
    would_decide,
)
from routegraph.validate.claims.cliff import LEAST_HALLUCINATION
from routegraph.validate.measure.result import Measured

#: "Moderate" ratios, for C8 and for C11.
MODERATE, MIDDLE = (0.4, 0.8), (0.5, 0.7)
#: A difference smaller than this counts as none.
NOTHING = 0.05
#: Abstention can be hurt where unanswerable items are met by it this often at ratio 0.
LEAST_ABSTENTION = 0.2
#: Two policies within this of each other have converged.
CONVERGED = 0.1
#: Facts of which less than this is gone are still there.
THERE = 0.25


def question_aware(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C8: question-aware pruning helps retrieval and hurts abstention."""
    cases = [case for agnostic, aware in pairs(sources) for case in _aware_cases(agnostic, aware, seed)]
    return conclude(
        "C8",
        "Question-aware pruning helps retrieval and hurts abstention",
        f"Aware minus agnostic, paired by item, mean over ratios {MODERATE[0]:g}-{MODERATE[1]:g}. Answerable: right "
        "answers; unanswerable: abstentions. Each half holds where the interval lies on the claimed side of 0, and "
        f"does not where it ends before a difference of {NOTHING:g} to that side. Abstention is not testable of a "
        f"model that abstains from less than {LEAST_ABSTENTION:g} of the unanswerable at ratio 0.",
        "aware minus agnostic",
        "the same difference under random eviction, whose scores know no question",
        cases,
        needed="two runs of measure on the same model and items, one of them with --question-aware",
        notes=unpaired(sources),
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
    return all(a.settings.get(name) == b.settings.get(name) for name in ("model", "weights"))


def _cut(found: Measured, ids: Sequence[str], ratios: Array) -> Measured:
    """Return the answers to some items, in that order, at some ratios; without metrics."""
    places = {name: i for i, name in enumerate(found.ids)}
    items = found.only([places[name] for name in ids])
    at = np.searchsorted(found.ratios, ratios)
    settings = {**found.settings, "ratios": ratios.tolist(), "keep": []}
    right, abstained = items.right[..., at], items.abstained[..., at]
    return replace(items, settings=settings, right=right, abstained=abstained, replies=(), metrics={})


def _aware_cases(agnostic: Measured, aware: Measured, seed: int) -> list[Case]:
    cases = []
    chosen = between(agnostic, *MODERATE)
    for policy in judged(agnostic):
        if policy not in aware.policies or not chosen.any():
            continue
        for items, what, sign in (
            (agnostic.answerable, "right answers to answerable questions", 1),
            (~agnostic.answerable, "abstentions from unanswerable ones", -1),
        ):
            where = f"{label(agnostic)}, {policy}, {what}"
            if not items.any():
                cases.append(
                    Case(where, UNTESTABLE, "needs unanswerable items" if sign < 0 else "needs items")
                )
                continue
            start = mean_of(agnostic.right[items, 0, 0].astype(float), seed, 0)
            if sign < 0 and start.high < LEAST_ABSTENTION:
                told = (
                    f"the model does not abstain at ratio 0 either: {show(start)}, {int(items.sum())} items"
                )
                cases.append(Case(where, UNTESTABLE, told))
                continue
            before, after = (_mean_right(m, policy, items, chosen) for m in (agnostic, aware))
            gain = mean_of(after - before, seed)
            n = int(items.sum())
            verdict = _signed(gain, sign)
            beside = ""
            if BASELINE in agnostic.policies and BASELINE in aware.policies:
                plain = [_mean_right(m, BASELINE, items, chosen) for m in (agnostic, aware)]
                beside = f"random: {show(mean_of(plain[1] - plain[0], seed))}"
            told = (
                f"{show(mean_of(before, seed, 0))} agnostic, {show(mean_of(after, seed, 0))} aware, difference "
                f"{show(gain)}; at ratio 0 {show(start)}; {n} items{would_decide(verdict, gain, 0, n)}"
            )
            cases.append(Case(where, verdict, told, beside, gain, {"items": n}))
    return cases


def _mean_right(found: Measured, policy: str, items: NDArray[np.bool_], ratios: NDArray[np.bool_]) -> Array:
    return np.asarray(found.right[items, found.policies.index(policy)][:, ratios].mean(axis=1))


def _signed(found: Interval, sign: int) -> str:
    low, high = sorted((sign * found.low, sign * found.high))
    if low > 0:
        return HOLDS
    return FAILS if high < NOTHING else UNDECIDED


# --- hops -----------------------------------------------------------------------------------------------


def multi_hop(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C10: multi-hop answers fail before tokens are lost."""
    cases, notes = [], []
    for found in sources:
        one, many, floor = hop_groups(found)
        notes += [f"{label(found)}, at floor: {', '.join(floor)}"] if floor else []
        for policy in judged(found):
            if one is None or many is None:
                where = label(found, policy)
                cases.append(
                    Case(where, UNTESTABLE, "needs one-hop and multi-hop questions with .6 right at ratio 0")
                )
            else:
                cases += _hop_cases(found, policy, one, many, seed)
    return conclude(
        "C10",
        "Multi-hop answers fail before tokens are lost",
        "Half point: ratio at which accuracy is half of that at 0, bootstrap over items. Two parts: (earlier) the "
        "half point of multi-hop minus that of one-hop forward questions lies below 0; (tokens there) at the "
        f"multi-hop half point, GER of the worst evidence fact, all slots, lies below {THERE:g}; does not hold above.",
        "half points' difference, and GER there",
        "one-hop questions: their half point, and GER there",
        cases,
        notes=notes,
    )


def hop_groups(found: Measured) -> tuple[Measured | None, Measured | None, list[str]]:
    """Return one-hop forward items and multi-hop items of groups not at floor (None: no group), and the others."""
    told: list[str] = []
    parts: list[Measured | None] = []
    chains = [i for i in range(len(found.ids)) if found.answerable[i]]
    single = [i for i in chains if hops_of(found, i) == 1 and "forward" in group_of(found, i)]
    several = [i for i in chains if hops_of(found, i) > 1]
    for items, what in ((single, "one-hop"), (several, "multi-hop")):
        kept: list[int] = []
        for name in dict.fromkeys(group_of(found, i) for i in items):
            own = [i for i in items if group_of(found, i) == name]
            right = int(found.right[own, 0, 0].sum())
            if right >= FLOOR * len(own):
                kept += own
            else:
                told.append(f"{what} {name} ({right} of {len(own)} right)")
        parts.append(found.only(sorted(kept)) if kept else None)
    return parts[0], parts[1], told


def _hop_cases(found: Measured, policy: str, one: Measured, many: Measured, seed: int) -> list[Case]:
    half_one, lost_one = answer_half_points(one, policy, seed)
    half_many, lost_many = answer_half_points(many, policy, seed + 1)
    apart = interval(half_many - half_one)
    n = len(many.ids)
    verdict = HOLDS if apart.high < 0 else FAILS if apart.low > 0 else UNDECIDED
    told = f"multi-hop halves at {show(interval(half_many), 3)}, {show(apart, 3)} from one-hop; {n} items"
    beside = f"one-hop halves at {show(interval(half_one), 3)} ({len(one.ids)} items)"
    cases = [
        Case(
            label(found, policy, "earlier"),
            verdict,
            told + would_decide(verdict, apart, 0, n),
            beside,
            apart,
            {"multi_hop": interval(half_many)._asdict(), "one_hop": interval(half_one)._asdict(), "items": n},
        )
    ]
    gone = interval(lost_many)
    if np.isnan(gone.value):
        return [*cases, Case(label(found, policy, "tokens there"), UNTESTABLE, "needs GER of evidence facts")]
    verdict = {HOLDS: FAILS, FAILS: HOLDS, UNDECIDED: UNDECIDED}[above(gone, THERE)]
    told = f"GER of the worst fact, all slots, at the multi-hop half point {show(gone)}; {n} items"
    beside = f"at the one-hop half point {show(interval(lost_one))}"
    return [
        *cases,
        Case(
            label(found, policy, "tokens there"),
            verdict,
            told + would_decide(verdict, gone, THERE, n),
            beside,
            gone,
            {"one_hop": interval(lost_one)._asdict(), "items": n},
        ),
    ]


def answer_half_points(found: Measured, policy: str, seed: int = 0) -> tuple[Array, Array]:
    """Return where accuracy is half of that at ratio 0, and GER of the worst fact there, float64[1 + resamples].

    The first is that of the data, the others are those of bootstrap resamples of the items.
    """
    place = found.policies.index(policy)
    draws = weights(len(found.ids), seed)
    curves = draws @ found.right[:, place].astype(float)
    half = crossing(found.ratios, curves - curves[:, :1] / 2, 0.0)
    values = found.metrics.get("ger_worst_fact_model")
    if values is None or not np.isfinite(values[:, place]).all():
        return half, np.full(len(half), np.nan)
    lost = draws @ values[:, place]
    there = [np.interp(at, found.ratios, curve) for at, curve in zip(half, lost, strict=True)]
    return half, np.array(there)


# --- presses --------------------------------------------------------------------------------------------


def presses(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C11: chunk and AdaKV differ at moderate ratios and converge at .9."""
    cases = []
    for found in sources:
        if not set(PAPER_POLICIES) <= set(found.policies) or not found.answerable.any():
            continue
        known = found.only(found.answerable)
        top = max(float(known.rates("wrong", policy).high.max()) for policy in PAPER_POLICIES)
        end = nearest(known, 0.9, 0.011)
        parts = [("at .5 to .7", between(known, *MIDDLE))]
        parts += [("at .9", np.arange(len(known.ratios)) == end)] if end is not None else []
        for words, chosen in parts:
            if not chosen.any():
                continue
            apart, right = (_apart(known, kind, chosen, seed) for kind in ("wrong", "accuracy"))
            n = len(known.ids)
            told = f"hallucination, chunk - adakv {show(apart)}; accuracy {show(right)}; {n} items"
            plain = ""
            if BASELINE in known.policies:
                beside = _apart(known, "wrong", chosen, seed, "adakv", BASELINE)
                plain = f"adakv - random {show(beside)}"
            numbers = {"accuracy": right._asdict(), "items": n}
            if top < LEAST_HALLUCINATION:
                told = f"the model abstains instead: hallucination below {top:.2f} at every ratio; {told}"
                cases.append(Case(label(found, words), UNTESTABLE, told, plain, apart, numbers))
                continue
            verdict = _differ(apart) if "to" in words else _converge(apart)
            told += would_decide(verdict, apart, 0 if "to" in words else CONVERGED, n)
            cases.append(Case(label(found, words), verdict, told, plain, apart, numbers))
    return conclude(
        "C11",
        "Chunk and AdaKV differ at moderate ratios and converge at .9",
        "Hallucination of chunk minus that of adakv, paired by item, answerable. At .5 to .7 (mean): holds where the "
        f"interval leaves out 0, does not where it lies within {NOTHING:g} of 0. At .9: holds where it lies within "
        f"{CONVERGED:g} of 0, does not where it lies wholly beyond {NOTHING:g}. Not testable where hallucination stays "
        "below .2.",
        "chunk - adakv",
        "adakv - random",
        cases,
    )


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
