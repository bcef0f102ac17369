"""Claims in words and tables: a terminal, a page, a README."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from routegraph.tables import Grid, many, show
from routegraph.text import hypertext
from routegraph.validate.claims import shapes
from routegraph.validate.claims.case import FAILS, HOLDS, MIXED, RULE, UNDECIDED, UNTESTABLE, Claim
from routegraph.validate.claims.items import asked_again, family_counts
from routegraph.validate.measure.result import Measured

VERDICTS = (HOLDS, FAILS, MIXED, UNDECIDED, UNTESTABLE)


def summary_grid(judged: Sequence[Claim]) -> Grid:
    """Return a row a claim: id, what is claimed, test, figure, verdict and how many cases stand behind it."""
    rows = [
        [c.id, c.statement, c.test, c.figure, f"set beside: {c.baseline}", f"{c.verdict} ({c.counts()})"]
        for c in judged
    ]
    columns = ["id", "claim", "test", "figure", "baseline", "verdict"]
    return Grid(columns, rows, "Claims of arXiv 2603.01426, judged here", right_from=6)


def short_grid(judged: Sequence[Claim], measured: Sequence[Measured] = ()) -> Grid:
    """Return a row a claim: id, verdict over all and by family of models, what is claimed, the cases behind it.

    measured : what was judged; each family's column says how many of its items are right at ratio 0.
    """
    right = family_counts([found for found in measured if asked_again(found)])
    families = sorted({name for claim in judged for name in claim.families})
    columns = [f"{name} ({right[name]} right at 0)" if name in right else name for name in families]
    rows = [
        [c.id, c.verdict, *(c.families.get(name, "-") for name in families), c.statement, c.counts()]
        for c in judged
    ]
    title = "Claims of arXiv 2603.01426"
    return Grid(["id", "verdict", *columns, "claim", "cases"], rows, title, right_from=4 + len(families))


def case_grid(claim: Claim) -> Grid:
    """Return a row a case: where, verdict, figure, baseline."""
    rows = [[case.where, case.verdict, case.figure, case.baseline or "-"] for case in claim.evidence]
    title = f"{claim.id}: {claim.verdict}"
    return Grid(["case", "verdict", "figure", f"beside it: {claim.baseline}"], rows, title, right_from=4)


def claims_sentence(judged: Sequence[Claim]) -> str:
    """Return in one sentence how many claims hold, and which do not."""
    named = {word: [c.id for c in judged if c.verdict == word] for word in VERDICTS}
    told = [f"{len(ids)} {_verb(word, len(ids))} ({', '.join(ids)})" for word, ids in named.items() if ids]
    return f"Of {many(len(judged), 'claim')} of the paper {', '.join(told)}."


def _verb(verdict: str, count: int) -> str:
    if verdict in (HOLDS, FAILS):
        plural = {HOLDS: "hold", FAILS: "do not hold"}[verdict]
        return verdict if count == 1 else plural
    return f"{'is' if count == 1 else 'are'} {verdict}"


def claims(console: Console, judged: Sequence[Claim], measured: Sequence[Measured] = ()) -> None:
    """Print the claims, what was judged and its curves' shapes, then the cases of each claim."""
    show(console, [claims_sentence(judged)])
    console.print()
    console.print(short_grid(judged, measured).to_rich())
    for grid in shapes.grids(measured):
        console.print()
        console.print(grid.to_rich())
    for claim in judged:
        console.print()
        show(console, [f"{claim.id}: {claim.verdict}. {claim.statement}."], "bold")
        show(console, [f"Test: {claim.test}", *_why(claim)], "dim")
        if claim.baseline != "-":
            show(console, [f"Beside it: {claim.baseline}."], "dim")
        for case in claim.evidence:
            beside = f" | {case.baseline}" if case.baseline else ""
            where = "" if case.where == "-" else f"{case.where}: "
            show(console, [f"- {where}{case.verdict}. {case.figure}{beside}"])
        show(console, list(claim.notes), "dim")
    console.print()
    show(console, [RULE], "dim")


def to_html(judged: Sequence[Claim], measured: Sequence[Measured] = ()) -> list[str]:
    """Return the claims as parts of a page: the summary, shapes of curves, then a table of the cases of each claim."""
    parts = [f"<p>{hypertext(claims_sentence(judged))}</p>"]
    parts += [short_grid(judged, measured).to_html(), summary_grid(judged).to_html(), _note(RULE)]
    parts += [grid.to_html() for grid in shapes.grids(measured)]
    for claim in judged:
        parts += [f"<details><summary>{hypertext(f'{claim.id}, case by case')}</summary>"]
        notes = (*_why(claim), *claim.notes)
        parts += [case_grid(claim).to_html(), *(_note(note) for note in notes), "</details>"]
    return parts


def to_markdown(judged: Sequence[Claim], measured: Sequence[Measured] = ()) -> list[str]:
    """Return the claims as lines of Markdown: the summary, shapes of curves, then test and cases of each claim."""
    lines = short_grid(judged, measured).to_markdown().splitlines()
    lines += ["", RULE]
    for grid in shapes.grids(measured):
        lines += ["", f"### {grid.title}", "", *grid.to_markdown().splitlines()]
    for claim in judged:
        lines += ["", f"### {claim.id}: {_verdicts(claim)}", "", f"{claim.statement}. Test: {claim.test}"]
        lines += [*_why(claim), ""]
        lines += case_grid(claim).to_markdown().splitlines()
        lines += [line for note in claim.notes for line in ("", f"{note}.")]
    return lines


def _why(claim: Claim) -> list[str]:
    return [f"Why that is a fair reading: {claim.why}."] if claim.why else []


def _verdicts(claim: Claim) -> str:
    """Return the verdict, and those of the families where there are several."""
    told = ", ".join(f"{name} {verdict}" for name, verdict in claim.families.items())
    return f"{claim.verdict} ({told})" if len(claim.families) > 1 else claim.verdict


def _note(words: str) -> str:
    return f"<p class=note>{hypertext(words)}</p>"
