"""A measurement in words and tables."""

from __future__ import annotations

import math

from routegraph.critical.result import CriticalFit
from routegraph.stats.auc import Auc
from routegraph.tables import Grid, Page, interval, many, note, points, spanned, words
from routegraph.validate.graders import FORMER
from routegraph.validate.measure.answers import KINDS, LEAST, Answers, Rates
from routegraph.validate.measure.bits import BITS_NOTE, bits_words
from routegraph.validate.measure.decoded import DECODED_NOTE, decoded_words
from routegraph.validate.measure.metrics import METRICS
from routegraph.validate.measure.pairs import PAIRS_NOTE, pair_blocks
from routegraph.validate.measure.reading import NOTE, other_unit, reading

FOOTNOTE = (
    "Right: by the grader named above. Wrong: neither right nor an abstention. Hallucination: wrong, and it states "
    "another value of the right type, as far as the task knows its values. 42 [33, 52]: Wilson's 95 % interval over "
    "items. Critical ratio of wrong replies: a logistic on the counts, interval by resampling items; the verdict "
    "compares it with gradual changes."
)
BUDGETS = (
    "Budgets are rows that a slot keeps (on average where a policy shares them out), whatever the prompt's length; "
    "critical ratios are fitted on each budget's mean ratio over the items."
)
AUC_FOOTNOTE = (
    "An item fails where it is right at ratio 0 and not right at the ratio. AUC: chance that, at the same policy, "
    f"ratio and task, a failing item has the worse value than one that holds; cells with at least {LEAST} of each, "
    "pooled by pairs, 95 % bootstrap over items. 'no': the interval holds .5. 'reversed': it tells them the other way "
    f"round. With {len(METRICS)} metrics, about {len(METRICS) / 20:.0f} intervals leave out .5 by chance."
)


def measured_page(found: Answers) -> Page:
    """Return what to make of the answers, the rates at every ratio, critical ratios; the metrics where measured."""
    metrics = (auc_grid(found.auc_table()), note(AUC_FOOTNOTE)) if found.metrics else ()
    pairs = pair_blocks(found)
    return Page(
        (
            words(
                *reading(found), header(found), *filter(None, [bits_words(found.bits), decoded_words(found)])
            ),
            points(f"{name}: {told}." for name, told in found.methods.items()),
            *rate_grids(found),
            critical_grid(found),
            *pairs,
            note(
                NOTE,
                FOOTNOTE,
                *([PAIRS_NOTE] if pairs else []),
                *([DECODED_NOTE if found.decode_interval else BUDGETS] if found.keep else []),
                *([BITS_NOTE] if found.bits else []),
            ),
            *metrics,
        )
    )


def header(found: Answers) -> str:
    """Return a sentence that says what was measured."""
    n, settings = found.n_context, found.settings
    sizes = ", ".join(f"{task} {found.item_tasks.count(task)}" for task in found.tasks)
    aware = "question-aware" if settings["question_aware"] else "question-agnostic"
    grader = settings.get("grader", FORMER)
    told = f"{many(len(found.ids), 'item')} of {spanned(n)} tokens ({sizes})"
    return f"Model {settings['model']}, {aware}, grader: {grader}; {told}."


def rate_grids(found: Answers) -> list[Grid]:
    """Return accuracy, wrong replies, hallucinations where known, abstention: a row a policy and task, in percent.

    Up to five ratios, each above the rows that it keeps, or budgets of rows, each above the ratio that it is.
    """
    last = len(found.ratios) - 1
    at = sorted({round(k * last / 4) for k in range(5)} | ({1} if found.bits else set()))
    columns = ["policy", "task", *(_column(found, k) for k in at)]
    return [
        Grid(
            columns,
            [
                [policy, task or "all", *(_percent(found.rates(kind, policy, task), k) for k in at)]
                for policy in found.policies
                for task in _groups(found)
                if found.rates(kind, policy, task).trials
            ],
            title=f"{kind.capitalize()} at the {'budget' if found.keep else 'ratio'}, percent",
            right_from=2,
        )
        for kind in KINDS
        if kind != "hallucination" or found.knowing.any()
    ]


def critical_grid(found: Answers) -> Grid:
    """Return critical ratios with their verdicts and the cliffs that are built in."""
    rows = []
    for policy in found.policies:
        built_in = (
            ", ".join(dict.fromkeys(f"{ratio:.3f}" for ratio in found.cliffs[policy].values())) or "none"
        )
        for task in _groups(found):
            fitted = found.critical(policy, task)
            verdict = "no change" if fitted is None else fitted.verdict
            rows.append([policy, task or "all", _critical(fitted), _width(fitted), verdict, built_in])
    columns = ["policy", "task", "critical ratio", "width 10-90 %", "verdict", "built in"]
    return Grid(columns, rows, title="Critical ratio of wrong replies", right_from=2)


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


def _column(found: Answers, k: int) -> str:
    """Return a budget and below it what that is in the other unit."""
    if not found.keep:
        full = " full" if found.bits and not k else ""
        return f"{found.ratios[k]:g}{full}\nkeep {other_unit(found, k, '-')}"
    return f"keep {found.keep[k - 1] if k else 'all'}\nratio {other_unit(found, k, '-')}"


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
