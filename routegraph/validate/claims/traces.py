"""Claims judged on traces and on the models at hand: depth (C5a, C5b), eviction rate (C6), scale (C9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from routegraph.choices import AXES
from routegraph.stats.bootstrap import interval
from routegraph.stats.intervals import NOWHERE, Interval
from routegraph.survival import fraction_gone
from routegraph.trace import Trace
from routegraph.validate.claims.case import (
    UNDECIDED,
    UNKNOWN,
    UNTESTABLE,
    Array,
    Case,
    Claim,
    above,
    conclude,
    known,
    largest,
    mean_of,
    opposite,
    short,
    show,
    weights,
    would_decide,
)
from routegraph.validate.claims.hops import half_lost
from routegraph.validate.claims.items import (
    PAPER_POLICIES,
    each,
    judged,
    known_family,
    label,
    standing,
)
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.measure.result import Measured
from routegraph.validate.traces.structure import by_layer, slope

#: Fewer layers have no early and late part worth the name.
LEAST_LAYERS = 12
#: The paper's ratios.
RATE_RATIOS = np.round(np.arange(0.1, 0.95, 0.1), 1)
#: Linear: the curve is this near to a straight line; alike: means of tasks are this near.
STRAIGHT, ALIKE = 0.05, 0.05
LEAST_PROMPTS = 5


def depth(
    runs: Sequence[Sequence[Trace]], without_sink: bool, seed: int = 0, measured: Sequence[Measured] = ()
) -> Claim:
    """C5a and C5b: where heads agree, by depth, with the sink and without it.

    measured : tell the families of models that are not known.
    """
    name = "consensus without sink" if without_sink else "consensus"
    cases = []
    for traces in runs:
        if any(trace.tops is None or trace.tops_without_sink is None for trace in traces):
            continue
        first, family = traces[0], known_family(traces[0].model, measured)
        rise = mean_of([slope(by_layer(trace)[name]) for trace in traces], seed)
        told = f"slope of consensus over depth {show(rise)}; {len(traces)} prompts, {first.n_layers} layers"
        where, claimed = first.model, _claimed(family if family != UNKNOWN else first.model)
        if first.n_layers < LEAST_LAYERS or not claimed:
            told += (
                f"; judged from {LEAST_LAYERS} layers on"
                if claimed
                else "; the paper says nothing of its family"
            )
            cases.append(Case(where, UNTESTABLE, told, main=rise, family=family))
            continue
        verdict = UNDECIDED
        if len(traces) > 1:
            verdict = (
                above(rise, 0) if claimed > 0 else above(Interval(-rise.value, -rise.high, -rise.low), 0)
            )
        told += would_decide(verdict, rise, 0, len(traces))
        cases.append(Case(where, verdict, told, _random_tops(traces, name), rise, family=family))
    shown = [_claimed(case.family if case.family != UNKNOWN else case.where) for case in cases]
    tested = {sign for case, sign in zip(cases, shown, strict=True) if case.verdict != UNTESTABLE}
    for sign, words in ((1, "LLaMA"), (-1, "Qwen")):
        if cases and sign not in tested:
            needed = f"needs traces of a trained {words} of at least {LEAST_LAYERS} layers"
            cases.append(Case(f"{words}, real", UNTESTABLE, needed))
    return conclude(
        "C5b" if without_sink else "C5a",
        "LLaMA: heads agree early and diversify late; Qwen the other way round "
        f"({'without' if without_sink else 'with'} the sink)",
        "Slope of consensus (distinct top keys over heads) over relative depth, mean over prompts with "
        "bootstrap interval, "
        f"{'without the first four positions' if without_sink else 'all positions'}: holds where its sign is "
        "the claimed "
        "one (LLaMA up, Qwen down), does not where it is the other. A model of another family, or of fewer than "
        f"{LEAST_LAYERS} layers, is shown, not judged.",
        "slope of consensus",
        "mean consensus, and its value were every head's top key drawn at random",
        cases,
        needed="traces, by routegraph extract",
        why="to agree early and diversify late is a rising curve, the other way round a falling one; the "
        "first positions, which all heads read, may make either, so both are judged",
    )


def _claimed(family: str) -> int:
    """Return the sign of the slope that the paper claims of a family or a model of that name; 0: none."""
    words = family.lower()
    return -1 if "qwen" in words else 1 if "llama" in words else 0


def _random_tops(traces: Sequence[Trace], name: str) -> str:
    level = mean_of([float(np.mean(by_layer(trace)[name])) for trace in traces], lowest=0)
    heads = traces[0].n_query_heads
    chance = []
    for trace in traces:
        past = np.arange(1, trace.n_context + 1, dtype=float)  # keys a query may read
        chance.append(float(np.mean(past * (1 - (1 - 1 / past) ** heads) / heads)))
    return f"mean {show(level)}; heads at random: {short(float(np.mean(chance)))}, slope 0"


def eviction_rate(runs: Sequence[Sequence[Trace]], seed: int = 0, measured: Sequence[Measured] = ()) -> Claim:
    """C6: the eviction rate grows about linearly and hardly depends on the task."""
    cases = []
    for traces in runs:
        for policy in PAPER_POLICIES:
            rates = eviction_rates(traces, policy)
            if rates is None:
                continue
            for axis, words in (("model", "all slots"), ("layer", "by layer")):
                where = f"{traces[0].model}, {policy}, {words}"
                tasks = [trace.task for trace in traces]
                family = known_family(traces[0].model, measured)
                found = (_straight(rates[axis], where, seed), _alike(rates[axis], tasks, where, seed))
                cases += [replace(case, family=family) for case in found]
    return conclude(
        "C6",
        "The eviction rate grows about linearly in the ratio and hardly depends on the task",
        "Context tokens gone from all slots, and from all heads of a layer, at ratios .1 to .9, read off. "
        "Two parts: (linear) the largest distance of the mean curve from the straight line that fits it best "
        f"lies below {STRAIGHT:g}; (tasks) the largest difference of two tasks' means at equal ratio lies "
        f"below {ALIKE:g}. Each does not hold where the interval lies above. Intervals are simultaneous, over "
        f"all ratios and pairs of tasks, by bootstrap over prompts; tasks of at least {LEAST_PROMPTS}.",
        "largest distance from a line, and difference of tasks",
        "R2, the slope, the distance from the ratio itself; and the difference that shuffled tasks would show",
        cases,
        needed="traces of several tasks, by routegraph extract",
        why="the square of the ratio, which two heads that evict independently would show, lies .09 from its "
        "own line, with an R2 of .95 that looks linear: half of that is nearer to a line than to a square",
    )


def eviction_rates(traces: Sequence[Trace], policy: str) -> dict[str, Array] | None:
    """Return eviction rates by head axis, float64[n_prompts, n_ratios]; None without the policy's scores."""
    try:
        method = Method.of_scores(traces[0], policy)
    except ValueError:
        return None
    found: dict[str, list[Array]] = {axis: [] for axis in AXES}
    for trace in traces:
        survival = Eviction.of(method, trace).survival()
        levels = survival.levels(RATE_RATIOS)
        for axis in AXES:
            found[axis].append(fraction_gone(survival.last(axis), levels))
    return {axis: np.array(rows) for axis, rows in found.items()}


def _straight(rates: Array, where: str, seed: int) -> Case:
    n = len(rates)
    curves = weights(n, seed) @ rates
    centred = RATE_RATIOS - RATE_RATIOS.mean()
    apart = curves - curves.mean(axis=1, keepdims=True)
    slopes = apart @ centred / (centred @ centred)
    total = (apart**2).sum(axis=1)
    left = ((apart - slopes[:, None] * centred) ** 2).sum(axis=1)
    fit = interval(np.where(total > 1e-12, 1 - left / np.maximum(total, 1e-12), 0.0))
    bent = largest(apart - slopes[:, None] * centred)
    off = interval(np.abs(curves - RATE_RATIOS).max(axis=1))
    verdict = opposite(above(bent, STRAIGHT)) if n > 1 else UNDECIDED
    told = (
        f"largest distance from a line {show(bent, 3)}; {n} prompts{would_decide(verdict, bent, STRAIGHT, n)}"
    )
    beside = f"R2 {show(fit, 3)}, slope {show(interval(slopes))}; from the ratio itself {show(off)}"
    numbers = {"r2": fit._asdict(), "largest_distance": off._asdict()}
    return Case(f"{where}, linear", verdict, told, beside, bent, numbers)


def _alike(rates: Array, tasks: Sequence[str], where: str, seed: int) -> Case:
    names = [task for task in dict.fromkeys(tasks) if tasks.count(task) >= LEAST_PROMPTS]
    if len(names) < 2:
        return Case(
            f"{where}, tasks", UNTESTABLE, f"needs at least {LEAST_PROMPTS} prompts of each of two tasks"
        )
    rows = [np.flatnonzero([task == name for task in tasks]) for name in names]
    means = np.array(
        [weights(len(own), seed + k) @ rates[own] for k, own in enumerate(rows)]
    )  # [tasks, B, A]
    first, second = np.triu_indices(len(names), 1)
    differences = means[first] - means[second]  # [pairs, B, A]
    spread = largest(np.moveaxis(differences, 1, 0).reshape(means.shape[1], -1))
    rng = np.random.default_rng(seed)
    pool = np.concatenate(rows)
    cuts = np.cumsum([len(own) for own in rows])[:-1]
    shuffled = [
        np.ptp([rates[part].mean(axis=0) for part in np.split(rng.permutation(pool), cuts)], axis=0).max()
        for _ in range(500)
    ]
    verdict = opposite(above(spread, ALIKE))
    told = f"largest difference of {len(names)} tasks {show(spread, 3)}; {len(pool)} prompts"
    told += would_decide(verdict, spread, ALIKE, len(pool))
    beside = f"shuffled tasks: up to {short(float(np.quantile(shuffled, 0.95)), 3)} in 95 %"
    return Case(f"{where}, tasks", verdict, told, beside, spread, {"tasks": names})


def scale(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C9: scale is not robustness."""

    def judge(found: Measured) -> Iterator[Case]:
        right = standing(found).right
        for policy in judged(found):
            half = NOWHERE if right is None else interval(half_lost(right, policy, seed))
            told = f"half of the answers are lost at {show(half, 3)}" if known(half) else "no half point"
            yield Case(label(found, policy), UNTESTABLE, told, "as context only", half)

    needed = "needs two or more sizes of one family, such as Qwen2.5 3B, 7B and 14B (6, 15, 30 GB of weights)"
    return conclude(
        "C9",
        "Scale is not robustness: 14B breaks at the same ratios, .7 to .9",
        "The ratio at which half of the items right at ratio 0 are lost must not rise with size within one "
        "family. No two sizes of one family are at hand: models that differ in training and language say "
        "nothing about size.",
        "ratio at which half of the answers are lost",
        "-",
        [Case("several sizes of one family", UNTESTABLE, needed), *each(sources, judge)],
    )
