"""A measurement in words and tables."""

from __future__ import annotations

import math

from routegraph.critical.result import CriticalFit
from routegraph.stats.auc import Auc
from routegraph.tables import Grid, Page, interval, note, points, words
from routegraph.validate.measure.answers import LEAST, Answers, Rates
from routegraph.validate.measure.metrics import METRICS

FOOTNOTE = (
    "Right: the first line of the reply starts with the answer (case, punctuation, articles and white space aside). "
    "Hallucination: neither right nor an abstention. 42 [33, 52]: Wilson's 95 % interval over items. Critical "
    "ratio of hallucination: a logistic on the counts, profile-likelihood interval; the verdict compares it with "
    "gradual changes."
)
AUC_FOOTNOTE = (
    "An item fails where it is right at ratio 0 and not right at the ratio. AUC: chance that, at the same policy, "
    f"ratio and task, a failing item has the worse value than one that holds; cells with at least {LEAST} of each, "
    "pooled by pairs, 95 % bootstrap over items. 'no': the interval holds .5. 'reversed': it tells them the other way "
    f"round. With {len(METRICS)} metrics, about {len(METRICS) / 20:.0f} intervals leave out .5 by chance."
)


def measured_page(found: Answers) -> Page:
    """Return the answers at every ratio, critical ratios, and which metric tells the failing items."""
    return Page(
        (
            words(*header(found)),
            points(f"{name}: {told}." for name, told in found.methods.items()),
            *rate_grids(found),
            critical_grid(found),
            note(FOOTNOTE),
            auc_grid(found.auc_table()),
            note(AUC_FOOTNOTE),
        )
    )


def header(found: Answers) -> list[str]:
    """Return sentences that say what was measured."""
    n, settings = found.n_context, found.settings
    sizes = ", ".join(f"{task} {found.item_tasks.count(task)}" for task in found.tasks)
    aware = "question-aware" if settings["question_aware"] else "question-agnostic"
    return [
        f"Model {settings['model']}, {aware}; {len(found.ids)} items of {n.min()} to {n.max()} tokens ({sizes}).",
        f"Right at ratio 0: {_rate(found.rates('accuracy', found.policies[0]), 0)}.",
    ]


def rate_grids(found: Answers) -> list[Grid]:
    """Return hallucination and accuracy, a row a policy and task, in percent, at up to five ratios."""
    last = len(found.ratios) - 1
    at = sorted({round(k * last / 4) for k in range(5)})
    columns = ["policy", "task", *(f"{found.ratios[k]:g}" for k in at)]
    return [
        Grid(
            columns,
            [
                [policy, task or "all", *(_percent(found.rates(kind, policy, task), k) for k in at)]
                for policy in found.policies
                for task in _groups(found)
            ],
            title=f"{kind.capitalize()} at the ratio, percent",
            right_from=2,
        )
        for kind in ("hallucination", "accuracy")
    ]


def critical_grid(found: Answers) -> Grid:
    """Return critical ratios with their verdicts and the cliffs that are built in."""
    rows = []
    for policy in found.policies:
        built_in = ", ".join(f"{ratio:.3f}" for ratio in found.cliffs[policy].values()) or "none"
        for task in _groups(found):
            fitted = found.critical(policy, task)
            verdict = "no change" if fitted is None else fitted.verdict
            rows.append([policy, task or "all", _critical(fitted), _width(fitted), verdict, built_in])
    columns = ["policy", "task", "critical ratio", "width 10-90 %", "verdict", "built in"]
    return Grid(columns, rows, title="Critical ratio of hallucination", right_from=2)


def auc_grid(table: list[Auc], title: str = "Which metric tells the items that fail") -> Grid:
    """Return the AUC of every metric that has one, the best first within its kind."""
    kinds = list(dict.fromkeys(metric.kind for metric in METRICS.values()))
    known = [row for row in table if not math.isnan(row.auc.value)]
    known.sort(key=lambda row: (kinds.index(METRICS[row.metric].kind), -row.auc.value))
    rows = [
        [
            row.metric,
            METRICS[row.metric].kind,
            "larger" if METRICS[row.metric].sign > 0 else "smaller",
            interval(row.auc, 3),
            row.tells,
            f"{row.pairs}",
            f"{row.cells}",
        ]
        for row in known
    ]
    columns = ["metric", "known", "fails if", "AUC", "tells", "pairs", "cells"]
    return Grid(columns, rows or [["none", "", "", "-", "-", "0", "0"]], title=title, right_from=3)


def _groups(found: Answers) -> list[str | None]:
    return [None, *found.tasks] if len(found.tasks) > 1 else [None]


def _rate(rates: Rates, k: int) -> str:
    return f"{rates.rate[k]:.2f} [{rates.low[k]:.2f}, {rates.high[k]:.2f}]"


def _percent(rates: Rates, k: int) -> str:
    rate, low, high = (round(100 * float(part[k])) for part in (rates.rate, rates.low, rates.high))
    return f"{rate} [{low}, {high}]"


def _critical(fitted: CriticalFit | None) -> str:
    if fitted is None or fitted.alpha_c is None:
        return "-"
    low, high = ("?" if end is None else f"{end:.3f}" for end in fitted.ci)
    return f"{fitted.alpha_c:.3f} [{low}, {high}]"


def _width(fitted: CriticalFit | None) -> str:
    if fitted is None:
        return "-"
    width = fitted.details["width"]
    low, high = ("?" if width[end] is None else f"{width[end]:.2g}" for end in ("low", "high"))
    return f"{width['value']:.2g} [{low}, {high}]"
