"""Claims on how answers fall with the ratio: margin (C1), cliff (C2), its steepness (C4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from routegraph.critical.cliff import RISE, mix
from routegraph.critical.counts import fit_counts
from routegraph.critical.points import crossing
from routegraph.critical.result import CriticalFit
from routegraph.stats.bootstrap import interval
from routegraph.stats.intervals import Interval
from routegraph.validate.claims.case import (
    FLOOR,
    HOLDS,
    UNDECIDED,
    UNTESTABLE,
    Array,
    Case,
    Claim,
    above,
    both,
    conclude,
    inside,
    mean_of,
    opposite,
    share_of,
    short,
    show,
    weights,
    would_decide,
)
from routegraph.validate.claims.items import (
    AT_FLOOR,
    BASELINE,
    built_in,
    each,
    floors,
    judged,
    label,
    nearest,
    standing,
)
from routegraph.validate.measure.result import Measured

#: "Near .9": the last step of a grid of tenths that ends there begins at .8.
NEAR = (0.8, 0.95)
#: A cliff: half of the harm is done within so much of the ratio, a step of the paper's grid.
NARROW = 0.1
#: A cliff of wrong replies can be looked for where their share gets here.
LEAST_WRONG = 0.2
#: 10 to 90 % of the rise of a logistic that stands for a cliff near .9, where likelihoods are compared.
STEEP = 0.1
#: Steepest rise: slopes over at least so many ratios, since two near ratios make any noise steep.
SPAN = 0.04
#: Moderate, and what of the answers is kept there.
MODERATE, KEPT = 0.4, 0.9


def margin(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C1: moderate compression keeps accuracy."""

    def judge(found: Measured) -> Iterator[Case]:
        right, place = standing(found).right, nearest(found, MODERATE)
        for policy in judged(found):
            if right is None or place is None:
                told = AT_FLOOR if right is None else f"needs a ratio near {MODERATE:g}"
                yield Case(label(found, policy), UNTESTABLE, told)
            else:
                yield _margin_case(found, right, policy, place, seed)

    return conclude(
        "C1",
        "Moderate compression keeps accuracy: a redundancy margin, up to about ratio .4",
        f"Of the items right at ratio 0, the share still right at ratio {MODERATE:g}, with Wilson's interval: "
        f"holds where it lies above {KEPT:g}, does not where it lies below.",
        "share of items still right at .4",
        "the same share under random eviction, and accuracies",
        each(sources, judge),
        notes=floors(sources),
        why="the paper's curves are flat to the eye up to .4, and one answer lost in ten is the least that would show",
    )


def _margin_case(found: Measured, right: Measured, policy: str, place: int, seed: int) -> Case:
    n, still = len(right.ids), right.right[:, right.place_of(policy)]
    share = share_of(int(still[:, place].sum()), n)
    largest = largest_kept(right, policy, seed)
    verdict = above(share, KEPT)
    numbers = {"items": n, "largest_ratio": largest._asdict()}
    beside = []
    if BASELINE in found.policies:
        plain = right.right[:, right.place_of(BASELINE), place]
        ahead = mean_of(still[:, place].astype(float) - plain, seed)
        random = share_of(int(plain.sum()), n)
        beside = [f"random keeps {show(random)}; {policy} keeps {show(ahead)} more"]
        numbers |= {"random": random._asdict(), "ahead": ahead._asdict()}
    items = standing(found).items
    if items is not None:
        rates = items.rates("accuracy", policy)
        first, then = rates.at(0), rates.at(place)
        beside.append(f"accuracy {show(first)} at 0, {show(then)} there, {rates.trials} items")
        numbers |= {"accuracy": first._asdict(), "accuracy_there": then._asdict()}
    told = (
        f"still right at {short(float(found.ratios[place]))} {show(share)}, {n} items; largest ratio with "
        f"{short(KEPT, 1)} kept {show(largest)}{would_decide(verdict, share, KEPT, n)}"
    )
    return Case(label(found, policy), verdict, told, "; ".join(beside), share, numbers)


def largest_kept(right: Measured, policy: str, seed: int = 0, share: float = KEPT) -> Interval:
    """Return the largest ratio up to which all ratios of the grid keep the share of items right at ratio 0."""
    kept = weights(len(right.ids), seed) @ right.right[:, right.place_of(policy)].astype(float)
    gone = kept < share - 1e-9
    first = np.where(gone.any(axis=1), gone.argmax(axis=1), len(right.ratios))
    return interval(right.ratios[np.maximum(first - 1, 0)])


# --- cliff ----------------------------------------------------------------------------------------------


def rise_of(right: Measured, policy: str, kind: str = "wrong", seed: int = 0) -> tuple[Interval, Interval]:
    """Return place and width of the rise of wrong replies ("wrong") or of lost answers ("lost"), with intervals.

    right : items right at ratio 0, so that the curve begins at 0. Place: where half of the rise to the curve's
    highest value has happened; width: from a quarter to three quarters; bootstrap over items.
    """
    place = right.place_of(policy)
    table = ~right.right[:, place] if kind == "lost" else right.of("wrong")[:, place]
    curves = weights(len(right.ids), seed) @ table.astype(float)
    top = curves.max(axis=1, keepdims=True)
    shares = np.where(top > 0, curves / np.maximum(top, 1e-12), 0.0)
    quarter, half, most = (crossing(right.ratios, shares, part) for part in (0.25, 0.5, 0.75))
    return interval(half), interval(most - quarter)


def cliff(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C2: hallucination has a cliff near .9."""

    def judge(found: Measured) -> Iterator[Case]:
        right = standing(found).right
        for policy in judged(found):
            problem = too_few_wrong(right, policy)
            if right is None or problem:
                yield Case(label(found, policy), UNTESTABLE, problem)
            else:
                yield _cliff_case(found, right, policy, seed)

    return conclude(
        "C2",
        "Hallucination has a cliff near ratio .9, for all models and presses",
        "Share of wrong replies among the items right at ratio 0, which rises from 0. Place: where half of "
        "the rise to its highest value has happened; width: from a quarter to three quarters (what comes "
        f"after the highest value is a fall, and no cliff). Holds where the place lies within {NEAR[0]:g} to "
        f"{NEAR[1]:g} and the width below {NARROW:g}; does not where one lies outside; undecided, too, where "
        "a cliff that code builds in lies in the place's interval. Not testable where the share stays below "
        f"{LEAST_WRONG:g}.",
        "place of the rise of wrong replies",
        "the fall of accuracy, cliffs that code builds in, likelihoods, and random eviction",
        each(sources, judge),
        notes=floors(sources),
        why="the paper's grid goes in tenths and ends at .9: its last step begins at .8, and half of the "
        "harm within one such step is a cliff, where a straight rise takes five",
    )


def _cliff_case(found: Measured, right: Measured, policy: str, seed: int) -> Case:
    n = len(right.ids)
    place, width = rise_of(right, policy, seed=seed)
    fall, fall_width = rise_of(right, policy, "lost", seed)
    near, narrow = inside(place, *NEAR), opposite(above(width, NARROW))
    verdict, why = both(near, narrow), ""
    code = [cliff for cliff in found.cliffs[policy].values() if place.low <= cliff <= place.high]
    if verdict == HOLDS and code:
        verdict, why = (
            UNDECIDED,
            "; a built-in cliff lies in the interval: needs a policy without protected rows",
        )
    elif near == UNDECIDED:
        why = would_decide(verdict, place, min(NEAR, key=lambda edge: abs(edge - place.value)), n)
    elif narrow == UNDECIDED:
        why = would_decide(verdict, width, NARROW, n)
    told = f"half of the rise at {show(place, 3)}, width {show(width, 3)}; {n} items{why}"
    beside = [f"accuracy falls at {show(fall, 3)}, width {show(fall_width, 3)}", built_in(found, policy)]
    names = ("width", "fall", "fall_width")
    numbers: dict[str, Any] = {
        name: value._asdict() for name, value in zip(names, (width, fall, fall_width), strict=True)
    }
    numbers |= {"items": n}
    fit = fit_of(right, policy, seed)
    if fit is not None:
        behind = behind_best(fit)
        beside.append(f"likelihood says {fit.verdict}, a cliff near .9 {behind:.1f} behind the best model")
        numbers |= {"fit": fit.verdict, "aicc": fit.details["aicc"], "behind": behind}
    if BASELINE in found.policies and not too_few_wrong(right, BASELINE):
        plain = rise_of(right, BASELINE, seed=seed)
        beside.append(f"random: {show(plain[0], 3)}, width {show(plain[1], 3)}")
    return Case(label(found, policy), verdict, told, "; ".join(beside), place, numbers)


def fit_of(right: Measured, policy: str, seed: int = 0) -> CriticalFit | None:
    """Fit a cliff and gradual changes to the rise of wrong replies, up to its top; None where ratios are too few."""
    found = right.rates("wrong", policy)
    at = right.apart
    at = at[: int(found.counts[at].argmax()) + 1]
    if len(at) < 4:
        return None
    return fit_counts(
        right.ratios[at], found.counts[at], found.trials, seed=seed, observable=f"wrong, {policy}"
    )


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


def too_few_wrong(items: Measured | None, policy: str) -> str:
    """Return why nothing can be said about wrong replies; nothing where it can."""
    if items is None:
        return AT_FLOOR
    found = items.rates("wrong", policy)
    top = int(found.rate.argmax())
    if found.high.max() >= LEAST_WRONG:
        return ""
    return (
        f"the model abstains instead, or loses nothing: wrong replies are at most {show(found.at(top))} "
        f"({found.trials} items); needed is a model of which at least {LEAST_WRONG:.0%} of the replies are "
        "wrong under eviction"
    )


# --- steepest rise --------------------------------------------------------------------------------------


def steepest(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C4: the susceptibility peaks at the cliff."""

    def judge(found: Measured) -> Iterator[Case]:
        items = standing(found).items
        for policy in judged(found):
            problem = too_few_wrong(items, policy)
            if items is None or problem:
                yield Case(label(found, policy), UNTESTABLE, problem)
            else:
                yield _steepest_case(items, policy, label(found, policy), seed)

    return conclude(
        "C4",
        "The susceptibility dH/dalpha peaks at the cliff, near ratio .9",
        f"Steepest rise of wrong replies over windows of at least {SPAN:g} ratios, in groups with at least "
        f"{FLOOR:g} right at 0, bootstrap over items: holds where the interval of its middle lies within "
        f"{NEAR[0]:g} to {NEAR[1]:g}, does not where it lies outside, undecided otherwise. Said beside: "
        "whether on a grid that ends at .9, as the paper's, the peak is the last window. Not testable where "
        f"wrong replies stay below {LEAST_WRONG:g}.",
        "middle of the steepest rise",
        "where noise alone puts the steepest rise of a straight line with the same ends, and cliffs built in by code",
        each(sources, judge),
        notes=floors(sources),
        why="it is the paper's definition, on a grid that goes on behind .9",
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
    verdict = inside(place, *NEAR)
    told += would_decide(verdict, place, min(NEAR, key=lambda edge: abs(edge - place.value)), n)
    beside = f"a straight line would peak at {show(expected, 3)}; {built_in(items, policy)}"
    return Case(where, verdict, told, beside, place, numbers)
