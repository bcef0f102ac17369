"""`audit`: result folders of compressed runs beside their uncompressed ones, item by item."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from routegraph.stats.certified import check_share
from routegraph.validate.audit import checks
from routegraph.validate.audit.certificates import certificates
from routegraph.validate.audit.flips import count_flips
from routegraph.validate.audit.pairs import one_reading, pair_up, without_repeats
from routegraph.validate.audit.read import read_runs
from routegraph.validate.audit.result import Audit
from routegraph.validate.audit.runs import Finding, listed, printable

#: Warnings in the order in which they stand: what makes results worthless first.
_ORDER = (
    "baseline",
    "idle",
    "names",
    "answers",
    "score",
    "settings",
    "items",
    "duplicates",
    "repeat",
    "flips",
    "rise",
    "rerun",
    "unchecked",
)


def audit(folder: str | os.PathLike[str], *, risk: float = 0.05, confidence: float = 0.9) -> Audit:
    """Set every compressed run below a folder beside its uncompressed one, item by item.

    Parameters
    ----------
    folder : path
        Result folders of kvpress's evaluation, samples of lm-eval, or folders that `measure` wrote, at any depth.
    risk : float
        Share of answers that may break at a certified ratio, in (0, 1).
    confidence : float
        Chance that all certificates hold, in (0, 1).

    Returns
    -------
    Audit

    Raises
    ------
    ValueError
        If a number is out of range, there is no such folder, it holds no run or no uncompressed one, a file is damaged,
        or two runs cannot be told apart.
    """
    check_share("risk", risk)
    check_share("confidence", confidence)
    runs, findings = read_runs(folder)
    runs, joined = one_reading(runs)
    runs, repeated = without_repeats(runs)
    pairs, lonely = pair_up(runs)
    whole, by_task = count_flips(pairs)
    certified, needed = certificates(pairs, risk, confidence)
    findings = [
        *findings,
        *(one for run in runs for one in run.findings),
        *joined,
        *repeated,
        *lonely,
        *checks.idle(pairs),
        *checks.items(pairs),
        *checks.hidden(whole),
        *checks.rises(pairs),
        *checks.reruns(pairs),
    ]
    return Audit(
        folder=printable(os.fspath(folder)),
        risk=risk,
        confidence=confidence,
        whole=tuple(whole),
        by_task=tuple(by_task),
        certificates=tuple(certified),
        needed=needed,
        findings=tuple(in_order(findings)),
    )


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return warnings before notes, by their kind; notes that say the same of several runs once."""
    made: dict[tuple[str, str], Finding] = {}
    for one in findings:
        before = made.get((one.kind, one.text))
        runs = one.runs if before is None else (*before.runs, *one.runs)
        made[one.kind, one.text] = replace(one, runs=runs)
    told = [
        replace(one, text=f"{one.text}: {listed(one.runs)}.") if one.kind == "unchecked" else one
        for one in made.values()
    ]
    return sorted(told, key=lambda one: (not one.warns, _ORDER.index(one.kind)))
