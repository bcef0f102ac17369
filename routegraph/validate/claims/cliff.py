"""Claims on how answers fall with the ratio: margin (C1), cliff (C2), its correlates (C3), its steepness (C4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit

from routegraph.critical.cliff import RISE, mix
from routegraph.critical.fit import CriticalFit
from routegraph.stats.bootstrap import interval
from routegraph.stats.intervals import Interval
from routegraph.validate.claims.case import (
    BASELINE,
    FAILS,
    HOLDS,
    UNDECIDED,
    UNTESTABLE,
    Array,
    Case,
    Claim,
    above,
    built_in,
    conclude,
    judged,
    label,
    nearest,
    show,
    standing,
    weights,
    would_decide,
)
from routegraph.validate.measure.result import Measured

#: "Near .9".
NEAR = (0.85, 0.95)
#: A cliff of hallucination can be looked for where the rate gets here.
LEAST_HALLUCINATION = 0.2
#: A cliff: 10 to 90 % of the change within so many ratios. Excluded where it is so far behind in log-likelihood (half
#: of the 95 % point of chi-squared, two parameters).
STEEP, BEHIND = 0.1, 3.0
#: Steepest rise: slopes over at least so many ratios, since two near ratios make any noise steep.
SPAN = 0.04


def margin(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C1: moderate compression keeps accuracy."""
    cases = []
    for found in sources:
        items = standing(found).items
        place = nearest(found, 0.4)
        for policy in judged(found):
            where = label(found, policy)
            if items is None or place is None:
                cases.append(Case(where, UNTESTABLE, _missing(items, "a ratio near .4")))
                continue
            n = len(items.ids)
            draws = weights(n, seed)
            kept = _kept(items, policy, draws)
            share = interval(kept[:, place])
            largest = _largest(found.ratios, kept)
            verdict = above(share, 0.9)
            beside, numbers = "", {"items": n, "largest_ratio": largest._asdict()}
            if BASELINE in found.policies:
                plain = _kept(items, BASELINE, draws)[:, place]
                ahead = interval(kept[:, place] - plain)
                beside = f"random keeps {show(interval(plain))}; {policy} keeps {show(ahead)} more"
                numbers |= {"random": interval(plain)._asdict(), "ahead": ahead._asdict()}
            start = items.rates("accuracy", policy)
            at_0 = Interval(float(start.rate[0]), float(start.low[0]), float(start.high[0]))
            told = (
                f"accuracy {show(at_0)} at 0; share kept at {found.ratios[place]:g} {show(share)}; largest ratio "
                f"with .9 kept {show(largest)}; {n} items{would_decide(verdict, share, 0.9, n)}"
            )
            cases.append(Case(where, verdict, told, beside, share, numbers))
    return conclude(
        "C1",
        "Moderate compression keeps accuracy: a redundancy margin, up to about ratio .4",
        "Share of the accuracy at ratio 0 that is kept at ratio .4, paired bootstrap over items: holds where the "
        "interval lies above .9, does not where it lies below.",
        "share of accuracy kept at .4",
        "the same share under random eviction",
        cases,
        notes=_floors(sources),
    )


def cliff(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C2: hallucination has a cliff near .9."""
    cases = []
    for found in sources:
        items = standing(found).items
        plain = None  # fitted once, where it is needed
        for policy in judged(found):
            where = label(found, policy)
            problem = _hallucinates(items, policy)
            fit = None if items is None or problem else items.critical(policy, seed=seed)
            if items is None or fit is None:
                cases.append(Case(where, UNTESTABLE, problem or "hallucination is the same at all ratios"))
                continue
            if plain is None and BASELINE in found.policies:
                plain = items.critical(BASELINE, seed=seed)
            place, behind = _critical(fit), behind_best(fit)
            verdict, why = _near_cliff(fit, behind, found.cliffs[policy].values())
            beside = built_in(found, policy)
            if plain is not None:
                beside += f"; random: {plain.verdict}, {show(_critical(plain), 3)}"
            told = (
                f"verdict of the fit: {fit.verdict}, critical ratio {show(place, 3)}; a cliff near .9 is behind the "
                f"best model by {behind:.1f} in log-likelihood; {len(items.ids)} items{why}"
            )
            numbers = {
                "fit": fit.verdict,
                "aicc": fit.details["aicc"],
                "behind": behind,
                "items": len(items.ids),
            }
            cases.append(Case(where, verdict, told, beside, place, numbers))
    return conclude(
        "C2",
        "Hallucination has a cliff near ratio .9, for all models and presses",
        f"Groups (task and direction) with accuracy of at least .6 at ratio 0, answerable items: a logistic must beat "
        f"line and parabola on the counts (verdict 'cliff'), and its critical ratio lie within {NEAR[0]:g}-{NEAR[1]:g} "
        f"with its profile interval. Does not hold where a cliff there (10 to 90 % within {STEEP:g}) is behind the "
        f"best of all models by {BEHIND:g} in log-likelihood (95 %). A cliff that code builds in inside the interval "
        "leaves it undecided. Counts at several ratios come from the same items, which the fit takes for independent. "
        "Not testable where hallucination stays below .2.",
        "critical ratio of hallucination",
        "cliffs that code builds in, and the same fit under random eviction",
        cases,
        notes=_floors(sources),
    )


def together(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C3: GER and hallucination move together."""
    cases = []
    for found in sources:
        known = found.only(found.answerable) if found.answerable.any() else None
        for policy in judged(found):
            problem = _hallucinates(known, policy)
            for axis, words in (("model", "GER all slots"), ("layer", "GER by layer")):
                where = label(found, policy, words)
                metric = f"ger_answer_{axis}"
                if known is None or metric not in known.metrics:
                    cases.append(Case(where, UNTESTABLE, "GER of answerable items was not measured"))
                else:
                    cases.append(_with_hallucination(known, policy, metric, where, problem, seed))
    return conclude(
        "C3",
        "GER and the hallucination rate move together (the paper: r = .79 to .93)",
        "GER must say more than the ratio itself, since any two rising curves correlate. Holds where r over the ratios "
        "lies above .5 and, at equal policy, ratio and task, GER tells the items that fail (AUC above .5). Does not "
        "where r lies below .5, or where the AUC's interval holds .5 and ends below .6 (GER the same for all items: "
        "AUC .5). Both readings of the head axis. Not testable where hallucination stays below .2.",
        "AUC of GER within cells",
        "r of the ratio itself with hallucination",
        cases,
    )


def steepest(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C4: the susceptibility peaks at the cliff."""
    cases = []
    for found in sources:
        items = standing(found).items
        for policy in judged(found):
            where = label(found, policy)
            problem = _hallucinates(items, policy)
            if items is None or problem:
                cases.append(Case(where, UNTESTABLE, problem))
            else:
                cases.append(_steepest_case(items, policy, where, seed))
    return conclude(
        "C4",
        "The susceptibility dH/dalpha peaks at the cliff, near ratio .9",
        f"Steepest rise of hallucination over windows of at least {SPAN:g} ratios, in groups with accuracy of at "
        f"least .6 at 0, bootstrap over items: holds where the interval of its middle lies within {NEAR[0]:g}-"
        f"{NEAR[1]:g}, does not where it lies outside, undecided otherwise. Said beside: whether on a grid that ends "
        "at .9, as the paper's, the peak is the last window. Not testable where hallucination stays below .2.",
        "middle of the steepest rise",
        "where noise alone puts the steepest rise of a straight line with the same ends, and cliffs built in by code",
        cases,
        notes=_floors(sources),
    )


def windows(ratios: Array) -> list[tuple[int, int]]:
    """Return the pairs of places whose ratios lie at least SPAN apart, the shortest from every place."""
    found = []
    for i, ratio in enumerate(ratios):
        ends = np.flatnonzero(ratios >= ratio + SPAN - 1e-9)
        if len(ends):
            found.append((i, int(ends[0])))
    return found


def peak(ratios: Array, curves: Array) -> Array:
    """Return the middle of the window in which each curve rises most steeply, float64[...]."""
    pairs = np.array(windows(ratios))
    first, last = pairs[:, 0], pairs[:, 1]
    slopes = (curves[..., last] - curves[..., first]) / (ratios[last] - ratios[first])
    middle = (ratios[last] + ratios[first]) / 2
    # Equal slopes share the place: no end of the grid is preferred.
    top = slopes >= slopes.max(axis=-1, keepdims=True) - 1e-12
    return np.asarray((top * middle).sum(axis=-1) / top.sum(axis=-1))


def _steepest_case(items: Measured, policy: str, where: str, seed: int) -> Case:
    ratios, n = items.ratios, len(items.ids)
    table = items.of("wrong")[:, items.policies.index(policy)].astype(float)
    curves = weights(n, seed) @ table
    place = interval(peak(ratios, curves))
    ends = table.mean(axis=0)[[0, -1]]
    line = np.interp(ratios, ratios[[0, -1]], ends)
    drawn = np.random.default_rng(seed).binomial(n, np.clip(line, 0, 1), size=(2000, len(ratios))) / n
    noise = np.median(peak(ratios, drawn)), *np.quantile(peak(ratios, drawn), [0.025, 0.975])
    expected = Interval(*(float(value) for value in noise))
    end = (ratios[windows(ratios)[-1][0]] + ratios[windows(ratios)[-1][1]]) / 2
    told = f"steepest at {show(place, 3)}, {n} items; the last window of our grid is {end:.3f}".replace(
        "is 0.", "is ."
    )
    numbers = {"straight_line": expected._asdict(), "last_window": float(end), "items": n}
    short = ratios[ratios <= 0.9 + 1e-9]
    if len(short) > 2 and len(windows(short)) > 1:
        inner = peak(short, curves[:, : len(short)])
        edge = (short[windows(short)[-1][0]] + short[windows(short)[-1][1]]) / 2
        share = float(np.isclose(inner[1:], edge).mean())
        told += f"; on a grid up to .9 at {show(interval(inner), 3)}, in its last window in {share:.0%} of resamples"
        numbers |= {"up_to_09": interval(inner)._asdict(), "edge_share": share}
    verdict = UNDECIDED
    if place.low >= NEAR[0] and place.high <= NEAR[1]:
        verdict = HOLDS
    elif place.high < NEAR[0] or place.low > NEAR[1]:
        verdict = FAILS
    bound = min(NEAR, key=lambda edge: abs(edge - place.value))
    told += would_decide(verdict, place, bound, n)
    beside = f"a straight line would peak at {show(expected, 3)}; {built_in(items, policy)}"
    return Case(where, verdict, told, beside, place, numbers)


def _with_hallucination(
    known: Measured, policy: str, metric: str, where: str, problem: str, seed: int
) -> Case:
    place = known.policies.index(policy)
    values = known.metrics[metric][:, place]
    given = np.isfinite(values).all(axis=1)
    (auc,) = replace(known, metrics={metric: known.metrics[metric]}).auc_table(policy, seed=seed)
    told_auc = f"AUC within cells {show(auc.auc)} ({auc.pairs} pairs, {auc.cells} cells)"
    if problem or not given.any():
        return Case(where, UNTESTABLE, f"{problem or 'no item has a GER'}; {told_auc}")
    draws = weights(int(given.sum()), seed)
    wrong = draws @ known.of("wrong")[given, place].astype(float)
    lost = draws @ values[given]
    ratio = np.broadcast_to(known.ratios, wrong.shape)
    r, alone = interval(correlation(lost, wrong)), interval(correlation(ratio, wrong))
    ahead = interval(correlation(lost, wrong) - correlation(ratio, wrong))
    verdict = UNDECIDED
    if r.low > 0.5 and auc.auc.low > 0.5:
        verdict = HOLDS
    elif r.high < 0.5 or (auc.auc.low <= 0.5 and auc.auc.high < 0.6):
        verdict = FAILS
    told = f"r {show(r)}; {told_auc}{would_decide(verdict, auc.auc, 0.5, max(auc.items, 1))}"
    beside = f"r of the ratio itself {show(alone)}; GER's r minus that {show(ahead)}"
    numbers = {"r": r._asdict(), "r_ratio": alone._asdict(), "ahead": ahead._asdict(), "pairs": auc.pairs}
    return Case(where, verdict, told, beside, auc.auc, numbers)


def correlation(a: Array, b: Array) -> Array:
    """Return Pearson's r of rows, float64[...]; NaN where one is constant."""
    x, y = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    size = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return np.where(size > 1e-15, (x * y).sum(axis=-1) / np.maximum(size, 1e-15), np.nan)


def _kept(items: Measured, policy: str, draws: Array) -> Array:
    """Return the share of the accuracy at ratio 0 that is kept, float64[resamples, n_ratios]."""
    rates = draws @ items.right[:, items.policies.index(policy)].astype(float)
    return np.asarray(rates / np.maximum(rates[:, :1], 1e-9))


def _largest(ratios: Array, kept: Array, share: float = 0.9) -> Interval:
    """Return the largest ratio up to which every ratio of the grid keeps the share."""
    first_below = np.where((kept < share).any(axis=1), (kept < share).argmax(axis=1), len(ratios))
    return interval(ratios[np.maximum(first_below - 1, 0)])


def _hallucinates(items: Measured | None, policy: str) -> str:
    """Return why a cliff of hallucination cannot be looked for; nothing where it can."""
    if items is None:
        return _missing(items, "")
    found = items.rates("wrong", policy)
    top = int(found.rate.argmax())
    if found.high.max() >= LEAST_HALLUCINATION:
        return ""
    most = Interval(float(found.rate[top]), float(found.low[top]), float(found.high[top]))
    return (
        f"the model abstains instead: hallucination is at most {show(most)} ({found.trials} items); needed is a model "
        f"that makes up at least {LEAST_HALLUCINATION:.0%} of its answers under eviction"
    )


def _missing(items: Measured | None, what: str) -> str:
    if items is None:
        return "all groups are at floor: needs answerable items of a task with at least .6 right at ratio 0"
    return f"needs {what}"


def _critical(fit: CriticalFit) -> Interval:
    low, high = (math.nan if end is None else end for end in fit.ci)
    return Interval(math.nan if fit.alpha_c is None else fit.alpha_c, low, high)


def _near_cliff(fit: CriticalFit, behind: float, code: Iterable[float]) -> tuple[str, str]:
    """Return the verdict of C2 on a fit, and why or what would decide."""
    place = _critical(fit)
    trials = int(max(fit.details["trials"]))
    if behind >= BEHIND:
        return FAILS, ""
    if fit.verdict != "cliff":  # log-likelihoods grow with the items
        told = fit.details["log_likelihood"]
        gain = told["cliff"] - max(told["line"], told["parabola"])
        need = math.ceil(trials * max(1.0, BEHIND / max(behind, gain, BEHIND / 100)))
        return UNDECIDED, f"; about {need} items would tell"
    inside = [cliff for cliff in code if place.low <= cliff <= place.high]
    if inside:
        return UNDECIDED, "; a built-in cliff lies in the interval: needs a policy without protected rows"
    if place.low >= NEAR[0] and place.high <= NEAR[1]:
        return HOLDS, ""
    bound = min(NEAR, key=lambda edge: abs(edge - place.value))
    return UNDECIDED, would_decide(UNDECIDED, place, bound, trials)


def behind_best(fit: CriticalFit) -> float:
    """Return how far the best rise near .9 is behind the best of all models, in log-likelihood; a fall is none."""
    ratios, counts, trials = (
        np.array(part, dtype=float) for part in (fit.ratios, fit.details["counts"], fit.details["trials"])
    )
    midpoints = np.linspace(*NEAR, 21)
    scales = np.geomspace(STEEP / 100, STEEP, 15) / RISE
    shape = expit((ratios - midpoints[:, None, None]) / scales[:, None])
    before, after, told = mix(counts, trials, shape, rounds=100)
    flat = float(fit.details["log_likelihood"]["constant"])  # a rise of nothing
    near = max(flat, float(np.where(after > before, told, -np.inf).max()))
    return max(0.0, float(max(fit.details["log_likelihood"].values())) - near)


def _floors(sources: Sequence[Measured]) -> list[str]:
    return [
        f"{label(found)}, at floor: {', '.join(standing(found).floor)}"
        for found in sources
        if standing(found).floor
    ]
