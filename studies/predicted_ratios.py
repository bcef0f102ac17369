"""Chances and critical ratios, predicted and measured: the second half of `studies.predictor_judged`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import plot
from routegraph.critical.points import crossing, crossing_interval, half_point
from routegraph.stats.intervals import NOWHERE, Interval
from routegraph.validate.predict.calibration import Calibration, fit, over_models, updated
from studies.judged_runs import GER, OTHER_HALF, Floats, Run
from studies.pages import cell, markdown

#: Items that a case needs, right at ratio 0.
LEAST = 10
_DRAWS = 500
OTHERS, OWN = "other models", "own model, other tasks"
WAYS = (OTHERS, OWN, *GER, "mean of other runs", "mean of own other tasks")


def calibrations(found: dict[str, Run], tries: int = 0) -> Calibration:
    """Return the calibration of the development models, with so many ratios tried."""
    return over_models(
        [fit(*_flat(run, tries)) for name, run in found.items() if name.startswith("dev-")],
        "four other models",
    )


def _flat(run: Run, tries: int, items: Any = slice(None)) -> tuple[Floats, NDArray[np.bool_]]:
    """Return what is lost and who breaks of some items at all ratios above 0, an item a row."""
    lost, fails = run.lost(tries)[items][:, :, 1:], run.fails[items][:, :, 1:]
    return lost.reshape(len(lost), -1), fails.reshape(len(fails), -1)


@dataclass(frozen=True, eq=False)
class Case:
    """A run, a policy and a task: the measured critical ratio and what was predicted of it."""

    run: str
    policy: str
    task: str
    items: int
    measured: Interval
    predicted: dict[str, Interval]


def cases(found: dict[str, Run], tries: int = 0) -> list[Case]:
    """Return every case of the judged runs, predicted with so many ratios tried."""
    known = calibrations(found, tries)
    made = []
    for name, run in found.items():
        if name.startswith("dev-"):
            continue
        own_ones = own_calibrations(run, known, tries)
        for task, here in run.by_task().items():
            if here.sum() < LEAST:
                continue
            own = own_ones[task]
            for p, policy in enumerate(run.policies):
                half = half_point(run.ratios, (~run.fails[here, p]).astype(float))
                if np.isnan(half.value):
                    continue
                lost = run.lost(tries)[here, p]
                ways = {OTHERS: _critical(known, lost, run.ratios)}
                if own is not None:
                    ways[OWN] = _critical(own, lost, run.ratios)
                for metric in GER:
                    if metric in run.values:
                        curve = np.nanmean(run.values[metric][here, p], axis=0)
                        ways[metric] = NOWHERE._replace(value=float(crossing(run.ratios, curve)))
                made.append(Case(name, policy, task, int(here.sum()), half, ways))
    for case in made:
        model = case.run.removesuffix(OTHER_HALF)
        others = [
            c.measured[0] for c in made if c.run.removesuffix(OTHER_HALF) != model and c.policy == case.policy
        ]
        same = [
            c.measured[0] for c in made if c.run == case.run and c.policy == case.policy and c is not case
        ]
        for word, values in (("mean of other runs", others), ("mean of own other tasks", same)):
            if values:
                case.predicted[word] = NOWHERE._replace(value=float(np.mean(values)))
    return made


def _critical(known: Calibration, lost: Floats, ratios: Floats) -> Interval:
    """Return the predicted critical ratio; a drawn curve that is not through by the last ratio counts as at 1."""
    drawn = crossing(ratios, known.drawn_kept(lost, _DRAWS, np.random.default_rng(0)))
    return crossing_interval(float(crossing(ratios, known.kept(lost))), np.where(np.isnan(drawn), 1.0, drawn))


def own_calibrations(run: Run, known: Calibration, tries: int) -> dict[str, Calibration | None]:
    """Return, for every task, the calibration moved by the run's other tasks; None where there is no other."""
    return {
        task: None if here.all() else updated(known, *_flat(run, tries, ~here), "other tasks")
        for task, here in run.by_task().items()
    }


def errors_table(made: Mapping[int, list[Case]]) -> str:
    """Return how far each way of predicting critical ratios is off, over the cases for which it says something.

    made : cases by how many ratios were tried
    """
    ways = [(f"{way}, {tries or 'none'} tried", way, tries) for way in (OTHERS, OWN) for tries in made]
    rows = []
    for words, way, tries in [*ways, *((f"`{way}`" if way in GER else way, way, 0) for way in WAYS[2:])]:
        given = [(case.measured, case.predicted[way]) for case in made[tries] if way in case.predicted]
        apart = np.array([abs(m[0] - p[0]) for m, p in given if not np.isnan(p[0])])
        silent = len(given) - len(apart)
        ranged = [(m, p) for m, p in given if not np.isnan(p[1])]
        holds = np.mean([p[1] <= m[0] <= p[2] for m, p in ranged]) if ranged else np.nan
        meets = (
            np.mean([p[1] <= np.nan_to_num(m[2], nan=1) and np.nan_to_num(m[1]) <= p[2] for m, p in ranged])
            if ranged
            else np.nan
        )
        rows.append(
            [
                words,
                str(len(given)),
                str(silent),
                f"{np.median(apart):.3f}" if len(apart) else "-",
                f"{(apart <= 0.08).sum() / len(given):.2f}" if len(given) else "-",
                *("-" if np.isnan(one) else f"{one:.2f}" for one in (holds, meets)),
                f"{np.median([p[2] - p[1] for _, p in ranged]):.2f}" if ranged else "-",
            ]
        )
    columns = [
        "predicted by",
        "cases",
        "no half point",
        "median error",
        "within .08",
        "interval holds it",
        "meets its interval",
        "width",
    ]
    return markdown(columns, rows)


def cases_table(made: list[Case]) -> str:
    """Return every case of the pretrained runs."""

    rows = [
        [
            case.run,
            case.policy,
            case.task,
            str(case.items),
            cell(case.measured),
            *(cell(case.predicted.get(way, NOWHERE)) for way in WAYS[:4]),
        ]
        for case in made
        if "tiny" not in case.run
    ]
    return markdown(["run", "policy", "task", "items", "measured", *(way for way in WAYS[:4])], rows)


def brier_table(found: dict[str, Run], all_tries: tuple[int, ...]) -> str:
    """Return Brier scores: other models', own other tasks', base rate of the cell."""
    rows = []
    for name, run in found.items():
        if name.startswith("dev-"):
            continue
        fails = run.fails[:, :, 1:].astype(float)
        base = np.empty(fails.shape)
        for here in run.by_task().values():
            base[here] = fails[here].mean(axis=0)
        risks = [base]
        for tries in all_tries:
            known = calibrations(found, tries)
            lost, own = run.lost(tries)[:, :, 1:], np.full(fails.shape, np.nan)
            for task, used in own_calibrations(run, known, tries).items():
                if used is not None:
                    own[run.by_task()[task]] = used.risk(lost[run.by_task()[task]])
            risks += [known.risk(lost), own]
        scores = [np.mean((risk - fails) ** 2) for risk in risks]
        rows.append(
            [name, *("-" if np.isnan(one) else f"{one:.3f}" for one in scores), f"{fails.mean():.2f}"]
        )
    ways = [f"{way}, {tries or 'none'} tried" for tries in all_tries for way in (OTHERS, OWN)]
    return markdown(["run", "base rate of the cell", *ways, "share that breaks"], rows)


def draw(found: dict[str, Run], made: Mapping[int, list[Case]], tries: int, path: Path) -> None:
    """Draw reliability curves with so many ratios tried, and predicted against measured critical ratios."""
    known = calibrations(found, tries)
    with plot.style():
        figure, (left, right) = plot.figure(1, 2, width=5.2, height=4.4)
        groups = {"pretrained": lambda n: "tiny" not in n, "tiny": lambda n: "tiny" in n}
        edges = np.linspace(0, 1, 11)
        for (word, chosen), colour in zip(groups.items(), plot.COLOURS.values(), strict=False):
            for own in (False, True):
                risks, fails = [], []
                for name, run in found.items():
                    if name.startswith("dev-") or not chosen(name):
                        continue
                    own_ones = own_calibrations(run, known, tries) if own else {}
                    for task, here in run.by_task().items():
                        used = own_ones[task] if own else known
                        if used is None:
                            continue
                        lost, broken = _flat(run, tries, here)
                        risks.append(used.risk(lost).ravel())
                        fails.append(broken.ravel())
                if not risks:
                    continue
                risk, broke = np.concatenate(risks), np.concatenate(fails)
                at = np.clip(np.digitize(risk, edges) - 1, 0, 9)
                points = [
                    (risk[at == k].mean(), broke[at == k].mean()) for k in range(10) if (at == k).sum() >= 20
                ]
                left.plot(
                    *np.transpose(points),
                    marker="o" if own else ".",
                    ms=4,
                    linestyle="-" if own else ":",
                    color=colour,
                    label=f"{word}: {'own model, other tasks' if own else 'other models'}",
                )
        left.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        left.set(xlabel="predicted chance to break", ylabel="share that broke")
        left.set_title("a  Reliability", loc="left")
        left.legend(loc="upper left", fontsize=7)
        for (word, chosen), colour in zip(groups.items(), plot.COLOURS.values(), strict=False):
            for shown in (0, tries):
                points = [
                    (case.measured[0], case.predicted[OTHERS][0]) for case in made[shown] if chosen(case.run)
                ]
                right.plot(
                    *np.transpose(points),
                    linestyle="",
                    marker="o",
                    ms=3.5,
                    color=colour,
                    markerfacecolor=colour if shown else "none",
                    alpha=1.0 if shown else 0.4,
                    label=f"{word}, {shown or 'none'} tried",
                )
        right.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        right.set(
            xlabel="measured critical ratio",
            ylabel="predicted, calibrated on other models",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        right.set_title("b  Critical ratios", loc="left")
        right.legend(loc="upper left")
        plot.save(figure, path)
