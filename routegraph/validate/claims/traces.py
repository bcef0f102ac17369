"""Claims judged on traces, probes and the models at hand: depth (C5), eviction rate (C6), probes (C7), scale (C9)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routegraph.choices import AXES
from routegraph.stats.bootstrap import interval
from routegraph.stats.intervals import NOWHERE, Interval
from routegraph.survival import fraction_gone
from routegraph.trace import Trace
from routegraph.validate.claims.case import (
    FAILS,
    HOLDS,
    PAPER_POLICIES,
    UNDECIDED,
    UNTESTABLE,
    Array,
    Case,
    Claim,
    above,
    conclude,
    judged,
    label,
    mean_of,
    nearest,
    short,
    show,
    standing,
    weights,
    would_decide,
)
from routegraph.validate.claims.pairs import answer_half_points
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.measure.result import Measured
from routegraph.validate.traces.inspect import by_layer, slope

#: Fewer layers have no early and late part worth the name.
LEAST_LAYERS = 12
#: The paper's ratios.
RATE_RATIOS = np.round(np.arange(0.1, 0.95, 0.1), 1)
#: Linear: this much of the curve's variance is a straight line's; alike: means of tasks are this near.
STRAIGHT, ALIKE = 0.95, 0.05
LEAST_PROMPTS = 5


def depth(runs: Sequence[Sequence[Trace]], seed: int = 0) -> Claim:
    """C5: where heads agree, by depth."""
    cases, qwen = [], False
    for traces in runs:
        if any(trace.tops is None or trace.tops_without_sink is None for trace in traces):
            continue
        first = traces[0]
        is_qwen = "qwen" in first.model.lower()
        found = [{name: slope(curve) for name, curve in by_layer(trace).items()} for trace in traces]
        for name in ("consensus", "consensus without sink"):
            rise = mean_of([slopes[name] for slopes in found], seed)
            where = f"{first.model}, sink {'out' if 'without' in name else 'in'}"
            told = (
                f"slope of consensus over depth {show(rise)}; {len(traces)} prompts, {first.n_layers} layers"
            )
            if first.n_layers < LEAST_LAYERS:
                told += f"; judged from {LEAST_LAYERS} layers on"
                cases.append(Case(where, UNTESTABLE, told, main=rise))
                continue
            qwen |= is_qwen
            claimed = Interval(-rise.value, -rise.high, -rise.low) if is_qwen else rise
            verdict = above(claimed, 0) if len(traces) > 1 else UNDECIDED
            told += would_decide(verdict, rise, 0, len(traces))
            cases.append(Case(where, verdict, told, _random_tops(traces, name), rise))
    if cases and not qwen:
        needed = (
            f"needs a trained Qwen of at least {LEAST_LAYERS} layers (Qwen2.5-3B: 36 layers, 6 GB of weights)"
        )
        cases.append(Case("Qwen, real", UNTESTABLE, needed))
    return conclude(
        "C5",
        "LLaMA: heads agree early and diversify late; Qwen the other way round",
        "Slope of consensus (distinct top keys over heads) over relative depth, mean over prompts with bootstrap "
        "interval, with the sink and without the first four positions: holds where its sign is the claimed one (LLaMA "
        f"up, Qwen down). A model of fewer than {LEAST_LAYERS} layers is shown, not judged.",
        "slope of consensus",
        "mean consensus, and its value were every head's top key drawn at random",
        cases,
        needed="traces, by routegraph extract",
    )


def _random_tops(traces: Sequence[Trace], name: str) -> str:
    level = mean_of([float(np.mean(by_layer(trace)[name])) for trace in traces], lowest=0)
    heads = traces[0].n_query_heads
    chance = []
    for trace in traces:
        past = np.arange(1, trace.n_context + 1, dtype=float)  # keys a query may read
        chance.append(float(np.mean(past * (1 - (1 - 1 / past) ** heads) / heads)))
    return f"mean {show(level)}; heads at random: {short(float(np.mean(chance)))}, slope 0"


def eviction_rate(runs: Sequence[Sequence[Trace]], seed: int = 0) -> Claim:
    """C6: the eviction rate grows about linearly and hardly depends on the task."""
    cases = []
    for traces in runs:
        for policy in PAPER_POLICIES:
            rates = eviction_rates(traces, policy)
            if rates is None:
                continue
            for axis, words in (("model", "all slots"), ("layer", "by layer")):
                where = f"{traces[0].model}, {policy}, {words}"
                cases += [
                    _straight(rates[axis], where, seed),
                    _alike(rates[axis], [trace.task for trace in traces], where, seed),
                ]
    return conclude(
        "C6",
        "The eviction rate grows about linearly in the ratio and hardly depends on the task",
        "Context tokens gone from all slots, and from all heads of a layer, at ratios .1 to .9, read off. Two parts: "
        f"(linear) R2 of a straight line through the mean curve lies above {STRAIGHT:g}; (tasks) the largest "
        f"difference of two tasks' means at equal ratio lies below {ALIKE:g}; does not hold where it lies above. "
        f"Bootstrap over prompts, tasks of at least {LEAST_PROMPTS}.",
        "R2, and largest difference of tasks",
        "the ratio itself (R2 = 1), and the difference that shuffled tasks would show",
        cases,
        needed="traces of several tasks, by routegraph extract",
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
    off = interval(np.abs(curves - RATE_RATIOS).max(axis=1))
    verdict = above(fit, STRAIGHT) if n > 1 else UNDECIDED
    told = f"R2 {show(fit, 3)}, slope {show(interval(slopes))}; {n} prompts{would_decide(verdict, fit, STRAIGHT, n)}"
    beside = f"largest distance from the ratio itself {show(off)}"
    return Case(f"{where}, linear", verdict, told, beside, fit, {"largest_distance": off._asdict()})


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
    spread = interval(np.ptp(means, axis=0).max(axis=1))
    rng = np.random.default_rng(seed)
    pool = np.concatenate(rows)
    cuts = np.cumsum([len(own) for own in rows])[:-1]
    shuffled = [
        np.ptp([rates[part].mean(axis=0) for part in np.split(rng.permutation(pool), cuts)], axis=0).max()
        for _ in range(500)
    ]
    verdict = {HOLDS: FAILS, FAILS: HOLDS}.get(above(spread, ALIKE), UNDECIDED)
    told = f"largest difference of {len(names)} tasks {show(spread, 3)}; {len(pool)} prompts"
    told += would_decide(verdict, spread, ALIKE, len(pool))
    beside = f"shuffled tasks: up to {short(float(np.quantile(shuffled, 0.95)), 3)} in 95 %"
    return Case(f"{where}, tasks", verdict, told, beside, spread, {"tasks": names})


def read_probes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the results of linear probes; ValueError, one sentence, where a file holds none."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        for row in document["results"]:
            if row["features"] not in ("hidden", "cache"):
                raise ValueError
            for name in ("ratio", "macro_f1", "low", "high", "chance"):
                float(row[name])
            str(row["policy"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{str(path)!r} holds no results of linear probes") from None
    found: dict[str, Any] = document
    return found


def probes(documents: Sequence[Mapping[str, Any]], sources: Sequence[Measured] = ()) -> Claim:
    """C7: linear probes stay high while generation fails."""
    cases = []
    for document in documents:
        rows = document["results"]
        model = str(document.get("model") or document.get("parameters", {}).get("model", "model not named"))
        for features, policy in dict.fromkeys((str(r["features"]), str(r["policy"])) for r in rows):
            own = sorted(
                (r for r in rows if (r["features"], r["policy"]) == (features, policy)),
                key=lambda r: float(r["ratio"]),
            )
            late = min(own, key=lambda r: abs(float(r["ratio"]) - 0.9))
            target = document.get("parameters", {}).get("target")
            where = ", ".join(filter(None, (model, policy, features, target)))
            if abs(float(late["ratio"]) - 0.9) > 0.051 or float(own[0]["ratio"]) > 0:
                cases.append(Case(where, UNTESTABLE, "needs probes at ratio 0 and near .9"))
            else:
                cases.append(_probe_case(own[0], late, where, _generation(sources, model, policy)))
    return conclude(
        "C7",
        "Linear probes stay high while generation fails",
        "Macro-F1 of a linear probe at the ratio nearest .9 against the middle between its value at ratio 0 and what "
        "a probe knows without the context (chance, or the question's tokens alone): holds where the interval lies "
        "above, does not where it lies below. Not testable where the probe does no better at ratio 0 than without "
        "the context: then it need not read what was evicted. 'hidden': states of the rows after the context over "
        "the surviving cache; 'cache': what surviving rows hold.",
        "macro-F1 near .9",
        "chance, the question's tokens alone, and what generation gets right at the same ratio",
        cases,
        needed="results of linear probes at ratio 0 and near .9 (--probes FILE)",
    )


def _probe_case(first: Mapping[str, Any], late: Mapping[str, Any], where: str, generation: str) -> Case:
    found, start = (Interval(*(float(r[k]) for k in ("macro_f1", "low", "high"))) for r in (late, first))
    chance, question = float(late["chance"]), float(late.get("question_only") or 0.0)
    without = max(chance, question)
    beside = f"chance {short(chance)}, the question alone {short(question)}{generation}"
    if start.low <= without:
        told = f"the probe finds no more at ratio 0 than without the context: macro-F1 {show(start)}"
        return Case(where, UNTESTABLE, told, beside)
    verdict = above(found, (start.value + without) / 2)
    told = f"macro-F1 {show(found)} at {float(late['ratio']):g}, {show(start)} at 0"
    return Case(where, verdict, told, beside, found, {"start": start._asdict()})


def _generation(sources: Sequence[Measured], model: str, policy: str) -> str:
    for source in sources:
        place = nearest(source, 0.9)
        same = source.settings["model"] == model and not source.settings["question_aware"]
        if same and place is not None and policy in source.policies and source.answerable.any():
            rates = source.only(source.answerable).rates("accuracy", policy)
            found = Interval(*(float(part[place]) for part in (rates.rate, rates.low, rates.high)))
            return f"; generation right {show(found)}"
    return ""


def scale(sources: Sequence[Measured], seed: int = 0) -> Claim:
    """C9: scale is not robustness."""
    cases = []
    for found in sources:
        items = standing(found).items
        for policy in judged(found):
            half = NOWHERE if items is None else interval(answer_half_points(items, policy, seed)[0])
            told = f"accuracy halves at {show(half, 3)}" if not math.isnan(half.value) else "no half point"
            cases.append(Case(label(found, policy), UNTESTABLE, told, "as context only", half))
    needed = "needs two or more sizes of one family, such as Qwen2.5 3B, 7B and 14B (6, 15, 30 GB of weights)"
    return conclude(
        "C9",
        "Scale is not robustness: 14B breaks at the same ratios, .7 to .9",
        "The half point of accuracy must not rise with size within one family. No two sizes of one family are at hand: "
        "models that differ in training and language say nothing about size.",
        "half point of accuracy",
        "-",
        [Case("several sizes of one family", UNTESTABLE, needed), *cases],
    )
