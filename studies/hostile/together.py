"""Three processes on one folder: ``python -m studies.hostile.together``, part of ``make kills``.

In every round three processes run the same command into one folder, started up to a third of the command's time apart.
None may fail, each must be told of in the folder, and what lies there in the end must be what one process writes.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from studies.hostile.kills import COMMANDS, PAGE, contents, prepare, run, started
from studies.pages import markdown, put_between

ROUNDS, PROCESSES = 20, 3
#: Commands whose folder several processes may share, and the folder.
SHARED = {"sweep": "swept", "measure": "measured"}
BEGIN, END = "<!-- together -->", "<!-- end of together -->"
HEAD = [
    "command",
    "rounds",
    "processes that failed",
    "runs not told of",
    "rounds with other bytes",
    "stray files",
]


def rounds(name: str, good: Path, work: Path, seed: int, count: int) -> tuple[int, int, int, int]:
    """Return how many processes failed, were not told of, and in how many rounds bytes or files were others."""
    command, draw = COMMANDS[name], random.Random(seed)
    alone = work / "alone"
    alone.mkdir(parents=True)
    status, seconds = run(command, good, alone)
    if status:
        raise RuntimeError(f"{name} fails by itself: {alone.with_suffix('.2').read_text()}")
    expected = contents(alone)
    failed = untold = other = stray = 0
    for number in range(count):
        folder = work / f"shared{number}"
        folder.mkdir()
        pids = []
        for _ in range(PROCESSES):
            pids.append(started(command, good, folder, folder.with_name(f"{folder.name}-{len(pids)}")))
            time.sleep(draw.uniform(0, seconds / 3))
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        failed += sum(end != 0 for end in ends)
        untold += PROCESSES - len(json.loads((folder / SHARED[name] / "run.json").read_text())["runs"])
        found = contents(folder)
        other += any(found.get(file) != told for file, told in expected.items())
        stray += len(found.keys() - expected.keys())
        if any(ends):
            print(f"{name}, round {number}: exit statuses {ends}")
    return failed, untold, other, stray


def main() -> int:
    """Run all rounds, write the table, and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="together-") as folder:
        good = prepare(Path(folder))
        rows, wrong = [], False
        for seed, name in enumerate(SHARED):
            counts = rounds(name, good, Path(folder) / name, seed, ROUNDS // len(SHARED))
            rows.append([name, str(ROUNDS // len(SHARED)), *map(str, counts)])
            wrong |= any(counts)
            print(" | ".join(rows[-1]), flush=True)
    put_between(PAGE, BEGIN, markdown(HEAD, rows), END)
    print(f"wrote {PAGE.name}")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
