"""The predictor, judged: docs/predictor.md. ``python -m studies.predictor_judged``.

Writes the page's tables and figure from studies/judged_runs.npz; see `studies.judged_runs`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from routegraph.validate.predict.tries import between
from studies.judged_runs import FIRST_STEP, GER, OTHER_HALF, Run, runs
from studies.pages import DOCS, cell, markdown, put_between
from studies.predicted_ratios import brier_table, cases, cases_table, draw, errors_table

BEGIN, END = "<!-- tables: written by studies/predictor_judged.py -->", "<!-- end of tables -->"
SHIPPED, CEILINGS = "support_lost", ("forced_sum", "forced_worst", FIRST_STEP)
#: Numbers of tried ratios that are judged, and the one that is recommended.
TRIES, RECOMMENDED = (0, 1, 2, 3), 2
#: Numbers of tries of the baseline, which interpolates along the ratio.
ALONE = (1, 2)


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


def tries_table(chosen: Sequence[Run]) -> str:
    """Return AUC by how many ratios are tried, of bisection alone with one and two, and of all tried."""
    rows = []
    for run in chosen:
        ratios = np.broadcast_to(run.ratios, run.fails.shape)
        alone = [between(ratios, run.tried(tries)) for tries in ALONE]
        values = [*(run.lost(tries) for tries in TRIES), *alone, "forced_worst"]
        rows.append([run.name, str(len(run.tasks)), *(cell(run.auc(one).auc) for one in values)])
    told = [f"{tries or 'none'} tried" for tries in TRIES] + [f"{tries}, no support" for tries in ALONE]
    columns = ["run", "items", *told, "all tried"]
    return markdown(columns, rows)


def policy_table(chosen: list[Run]) -> str:
    """Return `support_lost`, what two tries make of it and the ceiling, by policy."""
    rows = []
    for run in chosen:
        for policy in run.policies:
            own, top = run.auc(SHIPPED, policy), run.auc(CEILINGS[0], policy)
            tried = run.auc(run.lost(RECOMMENDED), policy)
            if not np.isnan(own.auc.value):
                rows.append(
                    [run.name, policy, *(cell(one.auc) for one in (own, tried, top)), f"{own.pairs:,}"]
                )
    return markdown(["run", "policy", f"`{SHIPPED}`", f"{RECOMMENDED} tried", "ceiling", "pairs"], rows)


def tiny_table(chosen: list[Run]) -> str:
    """Return a row a tiny model."""
    names = [SHIPPED, "energy_worst", "sources_lost", "dependence_lost", "margin_left", CEILINGS[0]]
    rows = [
        [run.name, *(cell(run.auc(name).auc) for name in names), f"{run.auc(SHIPPED).pairs:,}"]
        for run in chosen
    ]
    return markdown(["model", *(f"`{name}`" for name in names[:-1]), "ceiling", "pairs"], rows)


def main() -> None:
    """Write the tables and the figure."""
    found = runs()
    made = {tries: cases(found, tries) for tries in TRIES}
    judged = [run for name, run in found.items() if not name.startswith("dev-")]
    pretrained, tiny = ([run for run in judged if ("tiny" in run.name) == wanted] for wanted in (False, True))
    seen = [run for run in pretrained if not run.name.endswith(OTHER_HALF)]
    names = [
        SHIPPED,
        *(n for n in pretrained[0].values if n not in (SHIPPED, *CEILINGS, *GER, "random")),
        "random",
        *GER,
        *CEILINGS,
    ]
    groups = {
        "items nobody had read": lambda name: name.endswith(OTHER_HALF),
        "the other pretrained runs": lambda name: "tiny" not in name and not name.endswith(OTHER_HALF),
        "tiny models": lambda name: "tiny" in name,
    }
    parts = ["### A few ratios tried", "", tries_table([*pretrained, *tiny])]
    for words, chosen in groups.items():
        some = {tries: [case for case in made[tries] if chosen(case.run)] for tries in TRIES}
        parts += ["", f"### Critical ratios, {words}", "", errors_table(some)]
    parts += [
        "",
        "### Chances: Brier scores, none and two tried",
        "",
        brier_table(found, (0, RECOMMENDED)),
        "",
        "### By policy",
        "",
        policy_table(pretrained),
        "",
        "### All candidates, pretrained models",
        "",
        auc_table(seen, names),
        "",
        "### Tiny models",
        "",
        tiny_table(tiny),
        "",
        "### Every case of the pretrained models, two tried",
        "",
        cases_table(made[RECOMMENDED]),
    ]
    put_between(DOCS / "predictor.md", BEGIN, "\n".join(parts), END)
    draw(found, made, RECOMMENDED, DOCS / "predictor.svg")


if __name__ == "__main__":
    main()
