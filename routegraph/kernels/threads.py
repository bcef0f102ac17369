"""How work is shared out to threads: kernels let go of Python's lock, so plain threads run them side by side."""

from __future__ import annotations

from itertools import pairwise


def parts_of(n: int, threads: int) -> list[tuple[int, int]]:
    """Return which of n things each thread takes, the first and the one after the last; at most a thread a thing."""
    parts = min(threads, n)
    return list(pairwise(part * n // parts for part in range(parts + 1)))
