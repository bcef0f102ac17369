"""Runs commands one by one in forked processes, each confined in memory, processes and time, and judges what they did.

The parent has imported everything once; a case costs a fork and what the command itself does.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Seconds on the clock and of the processor after which a case hangs, and bytes that it may take beyond the parent's.
WALL, CPU, MEMORY = 60, 20, 3_000_000_000
#: Processes that may be there at once on top of what there are; of the superuser the kernel counts none.
PROCESSES = 64
#: Bytes that a file may have: what writes for ever is stopped.
FILE = 200_000_000

#: What Python, numpy and others say of their own; to a user it means nothing.
RAW = re.compile(
    r"NoneType|has no attribute|unsupported operand|list index|index out of range|unhashable|KeyError|TypeError"
    r"|invalid literal|could not convert|not subscriptable|must be str|unexpected keyword|Expecting (value|property)"
    r"|argument of type|array is too big|codec can't|broadcast|is out of bounds|object is not|ufunc|dtype\(|truth value"
    r"|cannot reshape|not iterable|not supported between|positional argument|NaN to integer|infinity to integer"
    r"|takes no arguments|too large to convert|math range|<class |int too large|invalid shape|not callable"
)


@dataclass(frozen=True)
class Case:
    """One call of the command line.

    Attributes
    ----------
    kind : str
        Under which it is counted.
    arguments : tuple of str
        Of the command; "{here}" stands for the case's own folder.
    expect : {"refused", "fine", "either", "failure", "differs", "any"}
        Exit status 2 with one plain line; 0; one of the two; 1 with one plain line; 1 of `replay`; 0, 1 or 2 of it.
    prepare : callable, optional
        Called with the case's own folder before the command runs there.
    """

    kind: str
    arguments: tuple[str, ...]
    expect: str = "refused"
    prepare: Callable[[Path], None] | None = None


@dataclass
class Outcome:
    """What became of a case: its exit status (or minus the signal), both streams, and every fault by its name."""

    case: Case
    status: int
    out: str
    err: str
    seconds: float
    grown: int
    faults: list[str] = field(default_factory=list)


STATUSES = {"refused": {2}, "fine": {0}, "either": {0, 2}, "failure": {1}, "differs": {1}, "any": {0, 1, 2}}


def judge(case: Case, outcome: Outcome, before: set[str], folder: Path) -> list[str]:
    """Return the names of all faults of a run."""
    out, err, status = outcome.out, outcome.err, outcome.status
    faults = []
    if outcome.seconds > WALL or status in (-signal.SIGXCPU, -signal.SIGALRM):
        faults.append("hang")
    elif status < 0:
        faults.append("signal")
    if "Traceback (most recent call last)" in out + err:
        faults.append("traceback")
    elif status >= 0 and status not in STATUSES[case.expect]:
        accepted = status == 0 and case.expect in ("refused", "failure", "differs")
        faults.append("silent acceptance" if accepted else "wrong exit status")
    if status in (1, 2) and "traceback" not in faults:
        lines = [
            line
            for line in err.splitlines()
            if not line.startswith(("warning: ", "computed again", "skipped"))
        ]
        usage = bool(lines) and lines[0].startswith("Usage:")
        if case.expect != "differs" and (len(lines) != 1 or not lines[0].startswith("error: ")) and not usage:
            faults.append("no plain line")
        if RAW.search(err):
            faults.append("raw words")
        if status == 2 and out and not usage:
            faults.append("output of a refusal")
        if len(err) > 3000 and not usage:
            faults.append("long refusal")
        if status == 2 and set(listed(folder)) - before:
            faults.append("left behind by a refusal")
    if any(name.endswith(".tmp") for name in listed(folder)):
        faults.append("temporary file left")
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f\x9b]", (out + err).replace("\r", "")):
        faults.append("raw escape")
    if outcome.grown > MEMORY * 2 // 3:
        faults.append("memory")
    return faults


def listed(folder: Path) -> Iterator[str]:
    """Yield every path in a folder, the folders too."""
    for path in folder.rglob("*"):
        yield str(path.relative_to(folder))


def run_all(
    cases: Iterable[Case], work: Path, at_once: int = 2, until: float = float("inf")
) -> Iterator[Outcome]:
    """Run cases, a few at once, each in a folder of its own in `work`, and yield outcomes as they end.

    Nothing more is started after the moment `until`.
    """
    waiting = iter(enumerate(cases))
    running: dict[int, tuple[Case, Path, set[str], float]] = {}
    more = True
    while more or running:
        while more and len(running) < at_once:
            number, case = next(waiting, (0, None))
            if case is None or time.monotonic() > until:
                more = False
                break
            folder = work / f"case{number}"
            folder.mkdir(parents=True)
            if case.prepare is not None:
                case.prepare(folder)
            before = set(listed(folder))
            running[_start(case, folder)] = case, folder, before, time.monotonic()
        for pid, (case, folder, before, began) in list(running.items()):
            ended, status, used = os.wait4(pid, os.WNOHANG)
            seconds = time.monotonic() - began
            if not ended:
                if seconds <= WALL:
                    continue
                _kill(pid)
                ended, status, used = os.wait4(pid, 0)
            _kill(pid)  # whatever it has started
            del running[pid]
            code = os.waitstatus_to_exitcode(status)
            streams = [Path(f"{folder}.{name}") for name in ("out", "err")]
            out, err = (path.read_bytes().decode("utf-8", "replace") for path in streams)
            grown = max(0, used.ru_maxrss * 1024 - _resident())
            outcome = Outcome(case, code, out, err, seconds, grown)
            outcome.faults = judge(case, outcome, before, folder)
            shutil.rmtree(folder, ignore_errors=True)
            for path in streams:
                path.unlink(missing_ok=True)
            yield outcome
        time.sleep(0.002)


def run_here(arguments: Sequence[str], folder: Path) -> None:
    """Run a command in this process; RuntimeError where it fails. What it imports and compiles, children have."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            status = call(list(arguments))
    finally:
        os.chdir(before)
    if status:
        raise RuntimeError(f"routegraph {' '.join(arguments)}: exit status {status}: {out.getvalue()}")


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _start(case: Case, folder: Path) -> int:
    """Fork a process that runs a case, and return its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):  # it has done so itself
            os.setpgid(pid, pid)
        return pid
    status = 70
    try:
        _confine()
        for number, name in ((1, "out"), (2, "err")):
            opened = os.open(f"{folder}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        status = call([argument.replace("{here}", str(folder)) for argument in case.arguments])
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _confine() -> None:
    """Set the limits of this process and of all that it starts, in a group of their own."""
    os.setpgid(0, 0)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for limit, value in (
        (resource.RLIMIT_AS, size + MEMORY),
        (resource.RLIMIT_CPU, CPU),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, FILE),
        (resource.RLIMIT_NPROC, _processes() + PROCESSES),
    ):
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _processes() -> int:
    """Return how many threads there are, about: the limit counts those of the user."""
    return sum(int(name.isdigit()) for name in os.listdir("/proc")) * 16


def call(arguments: list[str]) -> int:
    """Run the command line as ``python -m routegraph`` does, and return its exit status."""
    from routegraph.cli.main import main

    try:
        main(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def warm_up() -> None:
    """Import what commands import, and let torch and numba have one thread: a forked process keeps no others."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["NUMBA_THREADING_LAYER"] = "workqueue"  # that of OpenMP ends a process that was forked
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    torch.set_num_threads(1)


def settle() -> None:
    """Make this process ready to be forked, once commands have run in it and everything is imported."""
    gc.collect()
    gc.freeze()  # else the first collection of every child copies all pages that hold objects
