"""Claims in words and tables: a terminal, a page, a README."""

from __future__ import annotations

import html
from collections.abc import Sequence

from rich.console import Console

from routegraph.tables import Grid, show
from routegraph.validate.claims.case import RULE, Claim


def summary_grid(judged: Sequence[Claim]) -> Grid:
    """Return a row a claim: id, what is claimed, test, figure, verdict and how many cases stand behind it."""
    rows = [
        [c.id, c.statement, c.test, c.figure, f"set beside: {c.baseline}", f"{c.verdict} ({c.counts()})"]
        for c in judged
    ]
    columns = ["id", "claim", "test", "figure", "baseline", "verdict"]
    return Grid(columns, rows, "Claims of arXiv 2603.01426, judged here", right_from=6)


def short_grid(judged: Sequence[Claim]) -> Grid:
    """Return a row a claim: id, what is claimed, verdict, and the cases behind it."""
    rows = [[claim.id, claim.verdict, claim.statement, claim.counts()] for claim in judged]
    return Grid(["id", "verdict", "claim", "cases"], rows, "Claims of arXiv 2603.01426", right_from=4)


def case_grid(claim: Claim) -> Grid:
    """Return a row a case: where, verdict, figure, baseline."""
    rows = [[case.where, case.verdict, case.figure, case.baseline or "-"] for case in claim.evidence]
    title = f"{claim.id}: {claim.verdict}"
    return Grid(["case", "verdict", "figure", f"beside it: {claim.baseline}"], rows, title, right_from=4)


def claims(console: Console, judged: Sequence[Claim]) -> None:
    """Print the claims, then the cases of each."""
    console.print(short_grid(judged).to_rich())
    for claim in judged:
        console.print()
        show(console, [f"{claim.id}: {claim.verdict}. {claim.statement}."], "bold")
        show(console, [f"Test: {claim.test}", f"Beside it: {claim.baseline}."], "dim")
        for case in claim.evidence:
            beside = f" | {case.baseline}" if case.baseline else ""
            show(console, [f"- {case.where}: {case.verdict}. {case.figure}{beside}"])
        show(console, list(claim.notes), "dim")
    console.print()
    show(console, [RULE], "dim")


def to_html(judged: Sequence[Claim]) -> list[str]:
    """Return the claims as parts of a page: the summary, then a table of the cases of each claim."""
    parts = [summary_grid(judged).to_html(), _note(RULE)]
    for claim in judged:
        parts += [f"<details><summary>{_text(f'{claim.id}, case by case')}</summary>"]
        parts += [case_grid(claim).to_html(), *(_note(note) for note in claim.notes), "</details>"]
    return parts


def to_markdown(judged: Sequence[Claim]) -> list[str]:
    """Return the claims as lines of Markdown: the summary, then the test and cases of each claim."""
    lines = _table(short_grid(judged))
    lines += ["", RULE]
    for claim in judged:
        lines += ["", f"### {claim.id}: {claim.verdict}", "", f"{claim.statement}. Test: {claim.test}", ""]
        lines += _table(case_grid(claim))
        lines += [line for note in claim.notes for line in ("", f"{note}.")]
    return lines


def _table(grid: Grid) -> list[str]:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"

    return [row(grid.columns), "|" + " --- |" * len(grid.columns), *(row(cells) for cells in grid.rows)]


def _text(words: str) -> str:
    return html.escape(words)


def _note(words: str) -> str:
    return f"<p class=note>{_text(words)}</p>"
