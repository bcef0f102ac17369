"""Taking times, memory and the machine's own speed."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numba as nb
import numpy as np


class Timing(NamedTuple):
    """Wall seconds of one call: median, smallest and largest of `runs`, and the median of CPU seconds."""

    median: float
    least: float
    most: float
    runs: int
    cpu: float

    def __truediv__(self, other: Any) -> float:
        return self.median / (other.median if isinstance(other, Timing) else other)


def measure(
    function: Callable[[], Any], seconds: float = 1.0, least_runs: int = 5, most_runs: int = 200
) -> Timing:
    """Call a function once to warm it up (and compile), then for about `seconds`."""
    function()
    return measure_cold(function, seconds, least_runs, most_runs)


def measure_cold(
    function: Callable[[], Any], seconds: float = 0.0, least_runs: int = 1, most_runs: int = 200
) -> Timing:
    """The same without the first call."""
    walls: list[float] = []
    cpus: list[float] = []
    end = time.perf_counter() + seconds
    while len(walls) < least_runs or (time.perf_counter() < end and len(walls) < most_runs):
        cpu, wall = time.process_time(), time.perf_counter()
        function()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Timing(float(np.median(walls)), min(walls), max(walls), len(walls), float(np.median(cpus)))


def measure_together(functions: dict[str, Callable[[], Any]], rounds: int = 30) -> dict[str, Timing]:
    """Time functions turn by turn, so that whatever else the machine does hits them alike."""
    for function in functions.values():
        function()
    walls: dict[str, list[float]] = {name: [] for name in functions}
    cpus: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            cpu, wall = time.process_time(), time.perf_counter()
            function()
            walls[name].append(time.perf_counter() - wall)
            cpus[name].append(time.process_time() - cpu)
    return {
        name: Timing(float(np.median(w)), min(w), max(w), len(w), float(np.median(cpus[name])))
        for name, w in walls.items()
    }


def in_a_process(code: str, *arguments: object, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run code in a process of its own; it prints one JSON document. Adds wall seconds and peak bytes."""
    # Not getrusage: what it calls the peak is inherited from the parent process.
    ending = (
        "\nimport json as _j\n"
        "_p = int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) * 1024\n"
        "print(_j.dumps({**result, 'peak_bytes': _p}))\n"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code + ending, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        check=False,
    )
    wall = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {**json.loads(done.stdout.splitlines()[-1]), "wall": wall}


@nb.njit
def _triad(a, b, c, scale):  # type: ignore[no-untyped-def]
    for i in range(len(a)):
        a[i] = b[i] + scale * c[i]


def triad(n: int = 1 << 25) -> float:
    """Bytes a second of ``a = b + s * c`` on three arrays of 8 n bytes: the memory bandwidth of one core."""
    a, b, c = np.zeros(n), np.ones(n), np.ones(n)
    return 24 * n / measure(lambda: _triad(a, b, c, 3.0), seconds=2.0, least_runs=5).least


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of packages, "missing" where there is none."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def machine() -> dict[str, Any]:
    """Describe the processor, as far as the system says."""
    name = platform.processor() or platform.machine()
    caches: list[str] = []
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        for index in range(4):
            base = f"/sys/devices/system/cpu/cpu0/cache/index{index}"
            level, kind, size = (
                Path(f"{base}/{part}").read_text().strip() for part in ("level", "type", "size")
            )
            caches.append(f"L{level} {kind.lower()} {size}")
    except (OSError, StopIteration):
        pass
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"processor": name, "cores": os.cpu_count(), "caches": caches, "load_before": load}
