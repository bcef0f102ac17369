"""Kills at random moments: ``make kills`` kills commands with SIGKILL, runs them again, and compares every byte.

The commands run in forked processes, so that a kill falls into the work and not into imports. The moments are drawn
with a fixed seed, as shares of the time that the command takes when it is left alone.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studies.hostile.harness import call, run_here, settle, warm_up
from studies.pages import DOCS, markdown, put_between

KILLS = 8
PAGE = DOCS / "hostile.md"
BEGIN, END = "<!-- kills -->", "<!-- end of kills -->"
HEAD = ["command", "kills", "at, of the run's time", "files were there", "other bytes", "stray files"]

#: What differs between two runs of the same thing: when they were, and how long they took.
TIMES = {"minutes", "seconds", "runs", "started", "ended", "changed"}
#: Files that tell of times in words or in a drawing; that they are there is all that is compared.
TOLD = {"README.md", "curve.svg"}


@dataclass(frozen=True)
class Command:
    """A command that is killed, and what is to be done in its process before it runs."""

    arguments: str
    before: Callable[[], None] = lambda: None


def few_steps() -> None:
    """Let a training end after some steps, and not by the clock; with a checkpoint every few."""
    from routegraph.validate.train import run

    run.finished = lambda training: training.state.step >= 60
    run.CHECKPOINT_EVERY = 10


def local_copy() -> None:
    """Let `model get copied` make a model from files that are here, piece by piece, in a cache of the case's own."""
    from routegraph.validate.models.sources import MODELS

    known = MODELS["llama-tiny"]

    def build(folder: Path, _: Any) -> None:
        for path in sorted(known.folder.iterdir()):
            with (folder / path.name).open("wb") as stream:
                data = path.read_bytes()
                for start in range(0, len(data), 2**14):
                    stream.write(data[start : start + 2**14])
                    stream.flush()
                    time.sleep(0.01)

    os.environ["ROUTEGRAPH_CACHE"] = str(Path.cwd() / "cache")
    MODELS["copied"] = replace(known, name="copied", build=build)


COMMANDS = {
    "sweep": Command(
        "sweep --n-tokens 256 --n-tokens 512 --n-tokens 1024 --n-layers 8 --n-layers 16 --n-heads 4 --replicates 100 "
        "--out swept"
    ),
    "extract": Command("extract llama-tiny --prompts {good}/prompts.jsonl --graphs --out traces.npz"),
    "measure": Command(
        "measure llama-tiny --task {good}/prompts.jsonl --policy topk --policy snapkv --out measured"
    ),
    "model get": Command("model get copied", local_copy),
    "model train": Command("model train llama-tiny --items 2 --out trained", few_steps),
}


def started(command: Command, good: Path, folder: Path, told: Path | None = None) -> int:
    """Fork a process that runs a command in a folder, and return its number.

    What it prints goes into the files `told`.1 and `told`.2, beside the folder and named like it by default.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        for number in (1, 2):
            os.dup2(
                os.open(
                    (told or folder).with_suffix(f".{number}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600
                ),
                number,
            )
        os.chdir(folder)
        command.before()
        status = call(command.arguments.replace("{good}", str(good)).split())
    finally:
        os._exit(status)


def run(command: Command, good: Path, folder: Path) -> tuple[int, float]:
    """Run a command to its end; returns its exit status and the seconds that it took."""
    began = time.monotonic()
    _, status = os.waitpid(started(command, good, folder), 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - began


def killed(command: Command, good: Path, folder: Path, after: float) -> bool:
    """Run a command and kill it after some seconds; returns whether it was still running."""
    pid = started(command, good, folder)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def contents(folder: Path) -> dict[str, Any]:
    """Return what every file of a folder holds, hidden ones too, without what tells of times."""
    return {
        str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _content(path: Path) -> Any:
    if path.name in TOLD:
        return None
    if path.suffix == ".json" and path.parent.name != "cells":
        return _timeless(json.loads(path.read_text()))
    return path.read_bytes()


def _timeless(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: _timeless(value) for name, value in document.items() if name not in TIMES}
    return [_timeless(one) for one in document] if isinstance(document, list) else document


def rounds(name: str, good: Path, work: Path, seed: int, kills: int = KILLS) -> tuple[list[str], bool]:
    """Kill a command again and again; returns the row of the table, and whether anything was wrong."""
    command, draw = COMMANDS[name], random.Random(seed)
    alone = work / "alone"
    alone.mkdir(parents=True)
    status, seconds = run(command, good, alone)
    if status not in (0, 1):
        raise RuntimeError(f"{name} fails by itself: {alone.with_suffix('.2').read_text()}")
    expected = contents(alone)
    moments: list[float] = []
    begun = other = stray = tried = 0
    while len(moments) < kills:
        tried += 1
        if tried > 4 * kills:
            raise RuntimeError(f"{name} ends before it is killed")
        share, folder = draw.uniform(0.02, 1), work / f"killed{tried}"
        folder.mkdir()
        if not killed(command, good, folder, share * seconds):
            continue  # it was done already
        moments.append(share)
        begun += bool(contents(folder))
        again, _ = run(command, good, folder)
        found = contents(folder)
        if again != status or any(found.get(file) != told for file, told in expected.items()):
            other += 1
            print(
                f"{name} killed at {share:.2f}: exit status {again}, {folder.with_suffix('.2').read_text()}"
            )
        if left := sorted(found.keys() - expected.keys()):
            stray += 1
            print(f"{name} killed at {share:.2f} leaves {', '.join(left)}")
    at = f"{min(moments):.2f} to {max(moments):.2f}"
    return [name, str(kills), at, str(begun), str(other), str(stray)], bool(other or stray)


def prepare(folder: Path) -> Path:
    """Import and compile what the commands need, and return the folder of what they read."""
    good = folder / "good"
    good.mkdir()
    warm_up()
    run_here(["task", "words_forward", "--n", "12", "--length", "80", "--out", "prompts.jsonl"], good)
    for line in (
        "extract llama-tiny --prompts prompts.jsonl --limit 1 --graphs --out warm.npz",
        "measure llama-tiny --task prompts.jsonl --limit 1 --policy topk --policy snapkv --out warm",
        "sweep --n-tokens 32 --n-layers 2 --n-heads 2 --replicates 2 --out swept",
    ):
        run_here(line.split(), good)
    settle()
    return good


def main() -> int:
    """Kill all commands, write the table, and return the exit status."""
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        good = prepare(Path(folder))
        rows, wrong = [], False
        for seed, name in enumerate(COMMANDS):
            row, bad = rounds(name, good, Path(folder) / name.replace(" ", "-"), seed)
            rows.append(row)
            wrong |= bad
            print(" | ".join(row), flush=True)
    sums = [str(sum(int(row[column]) for row in rows)) for column in (1, 3, 4, 5)]
    rows.append(["all", sums[0], "", *sums[1:]])
    put_between(PAGE, BEGIN, markdown(HEAD, rows), END)
    print(f"wrote {PAGE.name}")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
