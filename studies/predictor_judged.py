"""The predictor, judged: docs/predictor.md. ``python -m studies.predictor_judged``.

Writes the page's tables and figure from studies/judged_runs.npz; see `studies.judged_runs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import plot
from routegraph.critical.points import crossing, crossing_interval, half_point
from routegraph.stats.intervals import NOWHERE, Interval
from routegraph.validate.predict.calibration import Calibration, fit, over_models, updated
from studies.judged_runs import GER, Floats, Run, runs
from studies.pages import DOCS, cell, markdown, put_between

BEGIN, END = "<!-- tables: written by studies/predictor_judged.py -->", "<!-- end of tables -->"
SHIPPED, CEILINGS = "support_lost", ("forced_sum", "forced_worst")
#: Items that a case needs, right at ratio 0.
LEAST = 10
_DRAWS = 500


def auc_table(chosen: list[Run], names: list[str]) -> str:
    """Return a table, a row a candidate, a column a run: pooled AUC, its interval, and the mean over cells."""
    rows = [
        [
            f"`{name}`",
            *(
                f"{cell(run.auc(name).auc)}, {run.mean_auc(name):.2f}" if name in run.values else "-"
                for run in chosen
            ),
        ]
        for name in names
    ]
    sizes = [f"{run.auc(SHIPPED).cells} cells, {run.auc(SHIPPED).pairs:,} pairs" for run in chosen]
    items = [str(len(run.tasks)) for run in chosen]
    rows += [["items right at ratio 0", *items], ["cells, pairs", *sizes]]
    return markdown(["candidate", *(run.name for run in chosen)], rows)


def policy_table(chosen: list[Run]) -> str:
    """Return `support_lost` and the ceiling by policy."""
    rows = []
    for run in chosen:
        for policy in run.policies:
            own, top = run.auc(SHIPPED, policy), run.auc(CEILINGS[0], policy)
            if not np.isnan(own.auc.value):
                rows.append([run.name, policy, cell(own.auc), cell(top.auc), f"{own.pairs:,}"])
    return markdown(["run", "policy", f"`{SHIPPED}`", "ceiling", "pairs"], rows)


def tiny_table(chosen: list[Run]) -> str:
    """Return a row a tiny model."""
    names = [SHIPPED, "energy_worst", "sources_lost", "dependence_lost", "margin_left", CEILINGS[0]]
    rows = [
        [run.name, *(cell(run.auc(name).auc) for name in names), f"{run.auc(SHIPPED).pairs:,}"]
        for run in chosen
    ]
    return markdown(["model", *(f"`{name}`" for name in names[:-1]), "ceiling", "pairs"], rows)


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
                ways = {"other models": _critical(known, lost, run.ratios)}
                if own is not None:
                    ways["own model, other tasks"] = _critical(own, lost, run.ratios)
                for metric in GER:
                    if metric in run.values:
                        curve = np.nanmean(run.values[metric][here, p], axis=0)
                        ways[metric] = NOWHERE._replace(value=float(crossing(run.ratios, curve)))
                made.append(Case(name, policy, task, int(here.sum()), half, ways))
    for case in made:
        others = [c.measured[0] for c in made if c.run != case.run and c.policy == case.policy]
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


WAYS = ("other models", "own model, other tasks", *GER, "mean of other runs", "mean of own other tasks")


def errors_table(made: list[Case]) -> str:
    """Return how far each way of predicting critical ratios is off, over the cases for which it says something."""
    rows = []
    for way in WAYS:
        given = [(case.measured, case.predicted[way]) for case in made if way in case.predicted]
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
                f"`{way}`" if way in GER else way,
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


def brier_table(found: dict[str, Run], tries: int) -> str:
    """Return Brier scores: other models', own other tasks', base rate of the cell."""
    known, rows = calibrations(found, tries), []
    for name, run in found.items():
        if name.startswith("dev-"):
            continue
        lost, fails = run.lost(tries)[:, :, 1:], run.fails[:, :, 1:].astype(float)
        own = np.full(lost.shape, np.nan)
        base = np.empty(lost.shape)
        own_ones = own_calibrations(run, known, tries)
        for task, here in run.by_task().items():
            base[here] = fails[here].mean(axis=0)
            if (used := own_ones[task]) is not None:
                own[here] = used.risk(lost[here])
        scores = [np.mean((risk - fails) ** 2) for risk in (known.risk(lost), own, base)]
        rows.append(
            [name, *("-" if np.isnan(one) else f"{one:.3f}" for one in scores), f"{fails.mean():.2f}"]
        )
    return markdown(
        ["run", "other models", "own model, other tasks", "base rate of the cell", "share that breaks"], rows
    )


def draw(found: dict[str, Run], tries: int, made: list[Case], path: Path) -> None:
    """Draw reliability curves, and predicted against measured critical ratios."""
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
        for word, chosen, colour in zip(groups, groups.values(), plot.COLOURS.values(), strict=False):
            points = [
                (c.measured[0], c.predicted["own model, other tasks"][0])
                for c in made
                if chosen(c.run) and "own model, other tasks" in c.predicted
            ]
            right.plot(*np.transpose(points), linestyle="", marker="o", ms=4, color=colour, label=word)
        right.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        right.set(
            xlabel="measured critical ratio",
            ylabel="predicted, from the own model's other tasks",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        right.set_title("b  Critical ratios", loc="left")
        right.legend(loc="upper left")
        plot.save(figure, path)


def main() -> None:
    """Write the tables and the figure."""
    found = runs()
    known = calibrations(found)
    made = cases(found, known)
    judged = [run for name, run in found.items() if not name.startswith("dev-")]
    pretrained, tiny = ([run for run in judged if ("tiny" in run.name) == wanted] for wanted in (False, True))
    names = [
        SHIPPED,
        *(n for n in pretrained[0].values if n not in (SHIPPED, *CEILINGS, *GER, "random")),
        "random",
        *GER,
        *CEILINGS,
    ]
    real = [case for case in made if "tiny" not in case.run]
    parts = [
        "### Pretrained models",
        "",
        auc_table(pretrained, names),
        "",
        "### By policy",
        "",
        policy_table(pretrained),
        "",
        "### Tiny models",
        "",
        tiny_table(tiny),
        "",
        "### Critical ratios, pretrained models",
        "",
        errors_table(real),
        "",
        "### Critical ratios, tiny models",
        "",
        errors_table([c for c in made if "tiny" in c.run]),
        "",
        "### Chances: Brier scores",
        "",
        brier_table(found, known),
        "",
        "### Every case of the pretrained models",
        "",
        cases_table(made),
    ]
    put_between(DOCS / "predictor.md", BEGIN, "\n".join(parts), END)
    draw(found, known, made, DOCS / "predictor.svg")


if __name__ == "__main__":
    main()
