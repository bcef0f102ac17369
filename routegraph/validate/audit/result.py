"""The result of `audit`: as numbers, in words, as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from routegraph._version import __version__
from routegraph.frames import records
from routegraph.stats.intervals import interval_dict
from routegraph.tables import Block, Grid, Heading, Page, Shown, many, note, points, words
from routegraph.validate.audit.certificates import CertifiedRatio
from routegraph.validate.audit.flips import Flips
from routegraph.validate.audit.runs import Finding, Scope

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: So many rows by task a terminal shows.
_SHOWN = 20

AUDIT_DEFINITIONS = {
    "broken": "right in the uncompressed run and not right in the compressed one",
    "mended": "not right in the uncompressed run and right in the compressed one",
    "right": "by the data set's own rule where it is known (RULER, LongBench's English questions, LongBench v2, "
    "MATH-500, AIME 25), by the file's own verdict (lm-eval, measure), else by a grader of routegraph",
    "unchanged_texts": "replies that equal the uncompressed ones, letter by letter",
    "n": "items that both runs have; judged: those of them of which both verdicts are known",
    "p": "exact McNemar test, two-sided: broken and mended answers are as frequent (binomial, 1/2); it takes items "
    "as independent, which questions on one context are not",
    "p_corrected": "corrected for the number of runs (rows of all tasks), or of runs and tasks (other rows), by Holm",
    "difference": "share right with compression minus that without; 95 % score interval of paired shares (Tango "
    "1998); of few flips it may leave out 0 where the exact test does not reject: then the test decides",
    "smallest_effect": "the smallest true share of breaking answers that so many items show at 5 %, two-sided, with "
    "80 % power, where none is mended; mended answers make it larger; null below 6 items",
    "certified": "Learn then Test: ratios from the smallest on, exact binomial p-values of 'more than the risk "
    "breaks'; the confidence is shared out among all presses, data sets and models, so that all statements hold "
    "together; it is for items drawn as these were",
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
    certificates : tuple of CertifiedRatio
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
    certificates: tuple[CertifiedRatio, ...]
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
    def scopes(self) -> list[Scope]:
        """Data sets and models."""
        return list(dict.fromkeys(row.pair.run.scope for row in self.whole))

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
        open_ = [row for row in rows if not row.loses and not row.gains]
        unseen = [row.smallest for row in open_ if not math.isnan(row.smallest)]
        rest, few = len(unseen), len(open_) - len(unseen)
        told = [
            f"{lost} of {many(len(rows), 'compressed run')} lose{'s' if lost == 1 else ''} answers beyond chance"
        ]
        if won:
            told.append(f"{won} gain{'s' if won == 1 else ''} answers")
        if rest:
            limit = f"though a loss below {100 * max(unseen):.2g} % could have been missed"
            told.append(f"{rest} show{'s' if rest == 1 else ''} no loss, {limit}")
        if few:
            told.append(f"{few} {'has' if few == 1 else 'have'} too few items to show any loss")
        return "; ".join(told) + "."

    def _most(self) -> str:
        judged = [row for row in self.compressed if row.judged]
        row = max(judged, key=lambda row: row.broken / row.judged, default=None)
        if row is None or not row.broken:
            return ""
        run = row.pair.run
        mended = "none is" if not row.mended else f"{row.mended} {'is' if row.mended == 1 else 'are'}"
        return (
            f"Most break under {run.label} at ratio {run.ratio:g}{self._where(run.scope)}: {row.broken} of "
            f"{row.judged} answers, while {mended} mended."
        )

    def _where(self, scope: Scope) -> str:
        """Return data set and model in brackets, where there are several."""
        return f" ({scope.words})" if len(self.scopes) > 1 else ""

    def _certified(self) -> str:
        held = [one for one in self.certificates if one.ratio is not None]
        terms = f"a risk of {100 * self.risk:g} % with {100 * self.confidence:g} % confidence"
        if not held:
            return f"No ratio is certified at {terms}."
        told = ", ".join(f"{one.press} at {one.ratio:g}{self._where(one.scope)}" for one in held[:3])
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

    def page(self, whole: bool = False) -> Page:
        """Return the answer, warnings, every run, what is certified, and the tasks.

        whole : with every column, and every task; else what fits a terminal.
        """
        blocks: list[Block] = [words(*filter(None, self.sentences))]
        if self.warnings:
            blocks += [Heading("Warnings"), points(one.text for one in self.warnings)]
        scope = f": {self.scopes[0].words}" if len(self.scopes) == 1 else ""
        blocks += [Heading("Runs beside their uncompressed run" + scope), flips_grid(self.whole, whole)]
        held = f"Certified at a risk of {self.risk:g}, {100 * self.confidence:g} % sure of all rows together"
        blocks += [Heading(held), self._certificate_grid()]
        if reasons := self._reasons():
            blocks.append(points(reasons))
        if self.by_task:
            shown = self.by_task if whole else _most_flips(self.by_task)
            title = (
                "By task" if len(shown) == len(self.by_task) else f"By task, the {len(shown)} with most flips"
            )
            blocks += [Heading(title), flips_grid(shown, whole)]
        if self.notes:
            blocks += [Heading("Notes"), points(one.text for one in self.notes)]
        blocks.append(
            note(
                "Broken: right uncompressed, not right compressed; mended: the other way round; changed: texts "
                "that differ. Difference: share right in percent, compressed minus uncompressed, with its 95 % "
                "interval (Tango's, for paired shares). p: exact McNemar, corrected by Holm for all rows of a "
                "table. Certified: Learn then Test; the confidence is shared out among all rows."
            )
        )
        return Page(tuple(blocks))

    def _certificate_grid(self) -> Grid:
        several = len(self.scopes) > 1
        rows = []
        for one in self.certificates:
            at = None if one.ratio is None else one.ratios.tolist().index(one.ratio)
            broke = "-" if at is None else f"{one.counts[at]} of {one.items}"
            ratio = "none" if at is None else f"{one.ratio:g}"
            rows.append([one.press, *([one.scope.words] if several else []), ratio, broke])
        columns = ["press", *(["data set, model"] if several else []), "ratio", "broke"]
        return Grid(columns, rows, right_from=1 + several)

    def _reasons(self) -> list[str]:
        """Return why presses have no certificate, a sentence each."""
        return [
            f"{one.press}{self._where(one.scope)}: none, since {one.reason}."
            for one in self.certificates
            if one.reason
        ]

    def plot(self, ax: Any = None) -> Figure:
        """Draw accuracy against the ratio, with what breaks and is mended; `ax`: two axes a data set and model."""
        from routegraph.validate.audit.figures import plot_audit

        return plot_audit(self.compressed, ax)

    def records(self) -> list[dict[str, Any]]:
        """Return every compressed run beside its uncompressed one as flat rows."""
        return records([self._row_dict(row) for row in (*self.whole, *self.by_task)])

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


def flips_grid(rows: Sequence[Flips], whole: bool) -> Grid:
    """Return a table of flips, with every column or with those that fit a terminal; scopes where there are several."""
    several = len({row.pair.run.scope for row in rows}) > 1
    tasks = any(row.task != "all" for row in rows)
    columns = {
        "press": lambda row: row.pair.run.label,
        "data set, model": lambda row: row.pair.run.scope.words,
        "task": lambda row: row.task,
        "ratio": lambda row: f"{row.pair.run.ratio:g}",
        "items": lambda row: str(row.judged),
        "right": lambda row: f"{row.right_before} > {row.right_after}",
        "broken": lambda row: str(row.broken),
        "mended": lambda row: str(row.mended),
        "changed": lambda row: str(row.n - row.unchanged),
        "difference": _difference,
        "p": lambda row: f"{row.p_corrected:.2g}" if row.judged else "-",
        "smallest loss shown": lambda row: "-" if math.isnan(row.smallest) else f"{100 * row.smallest:.2g} %",
        "verdict": lambda row: row.words,
    }
    left_out = {
        *(() if several else ("data set, model",)),
        *(() if tasks else ("task",)),
        *(() if whole else ("smallest loss shown", "verdict")),
        *(("items", "difference") if tasks and not whole else ()),
    }
    names = [name for name in columns if name not in left_out]
    drawn = [[columns[name](row) for name in names] for row in rows]
    return Grid(names, drawn, right_from=1 + several + tasks)


def _most_flips(rows: Sequence[Flips]) -> list[Flips]:
    """Return the rows with most flips, in their order."""
    places = sorted(range(len(rows)), key=lambda k: -(rows[k].broken + rows[k].mended))[:_SHOWN]
    return [rows[k] for k in sorted(places)]


def _difference(row: Flips) -> str:
    if math.isnan(row.difference.value):
        return "-"
    value, low, high = (100 * one for one in row.difference)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
