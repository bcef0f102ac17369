"""Hostile input to every command: ``make fuzz-cli`` runs the cases, ten minutes at most, and writes docs/hostile.md.

``python -m studies.hostile SECONDS`` takes another time, where cores are shared.

Exit status 1 where anything was found; each finding is told with the command that brings it about.
"""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from studies.hostile import calls, files, material, models, options
from studies.hostile.harness import Case, Outcome, run_all, settle, warm_up
from studies.pages import DOCS, markdown, put_between

#: Seconds that all may take.
SECONDS = 560
HEAD = ["kind of input", "cases", "refused", "taken", "tracebacks", "signals, hangs", "wrong status"]
HEAD += ["taken wrongly", "other"]
PAGE = DOCS / "hostile.md"
BEGIN, END = "<!-- cases -->", "<!-- end of cases -->"


def chosen(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield the cases by turns of their kinds, so that every kind is there whenever the time is up; the same always."""
    kinds: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        kinds[case.kind].append(case)
    for own in kinds.values():
        random.Random(0).shuffle(own)
    turns = itertools.zip_longest(*kinds.values())
    yield from (case for turn in turns for case in turn if case is not None)


def page_of(outcomes: list[Outcome]) -> str:
    """Return the table: a row a kind of case."""
    kinds: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        kinds[one.case.kind].append(one)
    rows = [_row(kind, own) for kind, own in sorted(kinds.items())]
    return markdown(
        HEAD,
        [*rows, _row("all", outcomes)],
    )


def _row(kind: str, own: list[Outcome]) -> list[str]:
    found = Counter(fault for one in own for fault in one.faults)
    told = [
        found["traceback"],
        found["signal"] + found["hang"],
        found["wrong exit status"],
        found["silent acceptance"],
    ]
    other = sum(found.values()) - sum(told)
    statuses = Counter(one.status for one in own)
    return [kind, *map(str, (len(own), statuses[2] + statuses[1], statuses[0], *told, other))]


def main() -> int:
    """Run the cases, write the page, and return the exit status."""
    until = time.monotonic() + (float(sys.argv[1]) if sys.argv[1:] else SECONDS)
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        good, work = Path(folder) / "good", Path(folder) / "work"
        good.mkdir()
        work.mkdir()
        warm_up()
        material.make(good)
        settle()
        cases = chosen([*options.cases(good), *files.cases(good), *models.cases(good), *calls.cases(good)])
        outcomes = []
        for one in run_all(cases, work, until=until):
            outcomes.append(one)
            if one.faults:
                told = " ".join(map(ascii, one.case.arguments)).replace(str(good), "{good}")
                print(
                    f"{', '.join(one.faults)}: routegraph {told[:400]}\n  {one.err.strip()[-400:]!r}",
                    flush=True,
                )
    put_between(PAGE, BEGIN, page_of(outcomes), END)
    found = sum(bool(one.faults) for one in outcomes)
    print(f"{len(outcomes)} cases, {found} of them with faults; wrote {PAGE.name}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
