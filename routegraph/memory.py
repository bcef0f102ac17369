"""How much memory is free, and the refusal of what takes more."""

from __future__ import annotations

import os
from pathlib import Path

#: Bytes that are not worth a look at what is free.
SMALL = 100_000_000
#: Replicates that anything is repeated at most.
REPLICATES = 10**7


def available() -> int | None:
    """Return how many bytes are free for this process, None where the system does not say."""
    found = [_meminfo(), _control_group()]
    return min((free for free in found if free is not None), default=None)


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return None


def _control_group() -> int | None:
    """Return what a container's limit leaves (cgroup version 2)."""
    try:
        limit, used = (
            Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current")
        )
        return None if limit == "max" else max(int(limit) - int(used), 0)
    except (OSError, ValueError):
        return None


def check_free(need: float, what: str, advice: str = "", least: float = 0) -> None:
    """Raise ValueError where so many bytes are not free; `what` takes them.

    `advice` says what would fit, and is told where the `least` bytes that it takes are free.
    """
    if need < SMALL:
        return
    free = available()
    if free is not None and need > free:
        raise ValueError(
            f"{what} needs about {need / 1e9:,.1f} GB of memory, and {free / 1e9:.1f} GB is free"
            f"{advice if least <= free else ''}"
        )
