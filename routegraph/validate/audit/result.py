"""The result of `audit`: as numbers, in words, as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from routegraph._version import __version__
from routegraph.stats.intervals import interval_dict
from routegraph.tables import Grid, Heading, Page, Shown, many, note, points, words
from routegraph.validate.audit.certificates import Certificate
from routegraph.validate.audit.flips import Flips
from routegraph.validate.audit.runs import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AUDIT_DEFINITIONS = {
    "broken": "right in the uncompressed run and not right in the compressed one",
    "mended": "not right in the uncompressed run and right in the compressed one",
    "right": "by the data set's own rule where it is known (RULER, LongBench's English questions, LongBench "
    "v2, MATH-500, "
    "AIME 25), by the file's own verdict (lm-eval, measure), else by a grader of routegraph",
    "unchanged_texts": "replies that equal the uncompressed ones, letter by letter",
    "n": "items that both runs have; judged: those of them of which both verdicts are known",
    "p": "exact McNemar test, two-sided: broken and mended answers are as frequent (binomial, 1/2); it takes "
    "items as "
    "independent, which questions on one context are not",
    "p_corrected": "corrected for the number of runs (rows of all tasks), or of runs and tasks (other rows), by Holm",
    "difference": "share right with compression minus that without; 95 % score interval of paired shares "
    "(Tango 1998)",
    "smallest_effect": "the smallest true share of breaking answers that so many items show at 5 %, "
    "two-sided, with 80 % "
    "power, where none is mended; mended answers make it larger; null below 6 items",
    "certified": "Learn then Test: ratios from the smallest on, exact binomial p-values of 'more than the "
    "risk breaks'; the "
    "confidence is shared out among all presses, data sets and models, so that all statements hold together; "
    "it is for "
    "items drawn as these were",
}


@dataclass(frozen=True, eq=False, repr=False)
class Audit(Shown):
    """What an audit of a folder found.

    Attributes
    ----------
    folder : str
    risk, confidence : float
    whole : tuple of Flips
        Of every run, over all tasks.
    by_task : tuple of Flips
        Of every run and task, where a run has several.
    certificates : tuple of Certificate
        Of every press, data set and model.
    needed : int
        Items that would do for a certificate if none of them broke.
    findings : tuple of Finding
        Warnings, then notes.
    """

    folder: str
    risk: float
    confidence: float
    whole: tuple[Flips, ...]
    by_task: tuple[Flips, ...]
    certificates: tuple[Certificate, ...]
    needed: int
    findings: tuple[Finding, ...]

    @property
    def compressed(self) -> list[Flips]:
        """Rows of compressed runs: reruns at ratio 0 are not among them."""
        return [row for row in self.whole if row.pair.run.ratio > 0]

    @property
    def warnings(self) -> list[Finding]:
        """What takes something from the results."""
        return [one for one in self.findings if one.warns]

    @property
    def notes(self) -> list[Finding]:
        """What takes nothing from the results."""
        return [one for one in self.findings if not one.warns]

    @property
    def sentences(self) -> list[str]:
        """The answer, in whole sentences."""
        return [self._lost(), self._most(), self._certified(), self._warned()]

    @property
    def answer(self) -> str:
        """The answer, in one line."""
        return " ".join(filter(None, self.sentences))

    def _lost(self) -> str:
        rows = [row for row in self.compressed if row.judged]
        if not rows:
            return "No run could be judged: there are no right answers, and only texts were compared."
        lost, won = (sum(getattr(row, name) for row in rows) for name in ("loses", "gains"))
        rest = len(rows) - lost - won
        told = [
            f"{lost} of {many(len(rows), 'compressed run')} lose{'s' if lost == 1 else ''} answers beyond chance"
        ]
        if won:
            told.append(f"{won} gain{'s' if won == 1 else ''} answers")
        if rest:
            unseen = [
                row.smallest
                for row in rows
                if not row.loses and not row.gains and not math.isnan(row.smallest)
            ]
            limit = (
                f", though a loss below {100 * max(unseen):.2g} % could have been missed" if unseen else ""
            )
            told.append(f"{rest} show{'s' if rest == 1 else ''} no loss{limit}")
        return "; ".join(told) + "."

    def _most(self) -> str:
        row = max(
            (row for row in self.compressed if row.judged),
            key=lambda row: row.broken / row.judged,
            default=None,
        )
        if row is None or not row.broken:
            return ""
        run = row.pair.run
        return (
            f"Most break under {run.label} at ratio {run.ratio:g} ({run.scope.words}): {row.broken} of "
            f"{row.judged} answers, "
            f"while {row.mended} {'is' if row.mended == 1 else 'are'} mended."
        )

    def _certified(self) -> str:
        held = [one for one in self.certificates if one.ratio is not None]
        terms = f"a risk of {100 * self.risk:g} % with {100 * self.confidence:g} % confidence"
        if not held:
            return f"No ratio is certified at {terms}."
        told = ", ".join(f"{one.press} at {one.ratio:g} ({one.scope.words})" for one in held[:3])
        more = f" and {len(held) - 3} more" if len(held) > 3 else ""
        together = ", all statements together" if len(self.certificates) > 1 else ""
        return f"Certified at {terms}{together}: {told}{more}."

    def _warned(self) -> str:
        count = len(self.warnings)
        return (
            f"There {'is' if count == 1 else 'are'} {many(count, 'warning')}."
            if count
            else "There are no warnings."
        )

    def page(self) -> Page:
        """Return the answer, warnings, every run, every task, and what is certified."""
        blocks: list[Any] = [words(*filter(None, self.sentences))]
        if self.warnings:
            blocks += [Heading("Warnings"), points(one.text for one in self.warnings)]
        blocks.append(flips_grid(self.whole, "Runs beside their uncompressed run, all tasks"))
        if self.by_task:
            blocks.append(flips_grid(self.by_task, "The same by task"))
        blocks.append(self._certificate_grid())
        if self.notes:
            blocks += [Heading("Notes"), points(one.text for one in self.notes)]
        blocks.append(
            note(
                "Broken: right uncompressed, not right compressed; mended: the other way round. Difference: "
                "share right, "
                "compressed minus uncompressed, with its 95 % interval (Tango's, for paired shares). p: "
                "exact McNemar, "
                "corrected by Holm. Shows: the smallest share of breaking answers that so many items show "
                "with 80 % power. "
                "Certified: Learn then Test; the confidence is shared out among all rows."
            )
        )
        return Page(tuple(blocks))

    def _certificate_grid(self) -> Grid:
        rows = []
        for one in self.certificates:
            at = None if one.ratio is None else one.ratios.tolist().index(one.ratio)
            broke = "-" if at is None else f"{one.counts[at]} of {one.items}"
            rows.append(
                [
                    one.press,
                    one.scope.words,
                    "none" if at is None else f"{one.ratio:g}",
                    broke,
                    one.reason or "-",
                ]
            )
        title = f"Certified at a risk of {self.risk:g}, {100 * self.confidence:g} % sure of all rows together"
        return Grid(["press", "data set, model", "ratio", "broke", "why none"], rows, title, right_from=2)

    def plot(self, ax: Any = None) -> Figure:
        """Draw accuracy against the ratio, with what breaks and is mended; `ax`: two axes a data set and model."""
        from routegraph.validate.audit.figures import plot_audit

        return plot_audit(self.compressed, ax)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {
            "version": __version__,
            "parameters": {
                "folder": self.folder,
                "risk": self.risk,
                "confidence": self.confidence,
                "items_needed": self.needed,
            },
            "definitions": AUDIT_DEFINITIONS,
            "answer": self.answer,
            "warnings": [_finding_dict(one) for one in self.warnings],
            "notes": [_finding_dict(one) for one in self.notes],
            "runs": [self._row_dict(row) for row in (*self.whole, *self.by_task)],
            "certified": [
                {
                    "dataset": one.scope.dataset,
                    "data_dir": one.scope.data_dir,
                    "model": one.scope.model,
                    "press": one.press,
                    "n": one.items,
                    "right_before": one.right,
                    "ratio": one.ratio,
                    "why_none": one.reason or None,
                    "ratios": one.ratios.tolist(),
                    "broken": one.counts.tolist(),
                    "p_values": one.p_values.tolist(),
                }
                for one in self.certificates
            ],
        }

    def _row_dict(self, row: Flips) -> dict[str, Any]:
        run = row.pair.run
        return {
            "name": run.name,
            "uncompressed": row.pair.base.name,
            "source": run.scope.source,
            "dataset": run.scope.dataset,
            "data_dir": run.scope.data_dir,
            "model": run.scope.model,
            "press": run.label,
            "task": row.task,
            "ratio": run.ratio,
            "n": row.n,
            "judged": row.judged,
            "right_before": row.right_before,
            "right_after": row.right_after,
            "broken": row.broken,
            "mended": row.mended,
            "unchanged_texts": row.unchanged,
            "changed_texts": row.n - row.unchanged,
            "p": row.p,
            "p_corrected": row.p_corrected,
            "difference": interval_dict(row.difference),
            "smallest_effect": None if math.isnan(row.smallest) else row.smallest,
            "verdict": row.words,
            "warnings": [one.text for one in self.warnings if run.name in one.runs],
        }


def _finding_dict(one: Finding) -> dict[str, Any]:
    return {"kind": one.kind, "text": one.text, "runs": list(one.runs)}


def flips_grid(rows: Sequence[Flips], title: str) -> Grid:
    """Return a table of flips; data set and model stand in it where there are several."""
    several = len({row.pair.run.scope for row in rows}) > 1
    tasks = any(row.task != "all" for row in rows)
    drawn = []
    for row in rows:
        run = row.pair.run
        drawn.append(
            [
                run.label,
                *([run.scope.words] if several else []),
                *([row.task] if tasks else []),
                f"{run.ratio:g}",
                str(row.judged),
                f"{row.right_before} > {row.right_after}",
                str(row.broken),
                str(row.mended),
                f"{row.n - row.unchanged}",
                _difference(row),
                f"{row.p_corrected:.2g}" if row.judged else "-",
                "-" if math.isnan(row.smallest) else f"{100 * row.smallest:.2g} %",
                row.words,
            ]
        )
    columns = [
        "press",
        *(["data set, model"] if several else []),
        *(["task"] if tasks else []),
        "ratio",
        "items",
        "right",
        "broken",
        "mended",
        "texts changed",
        "difference",
        "p",
        "shows",
        "verdict",
    ]
    return Grid(columns, drawn, title, right_from=1 + several + tasks)


def _difference(row: Flips) -> str:
    found = row.difference
    if math.isnan(found.value):
        return "-"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
