"""What torch may use of this machine: threads, and devices."""

from __future__ import annotations

import os
import warnings

from routegraph.options import check_whole
from routegraph.validate.models.sources import check_installed


def use_threads(threads: int | None = None) -> None:
    """Let torch use so many threads in this process; by default half of the cores, at least one.

    Threads that wait for each other on cores that other work shares are several times slower than one. More than
    there are cores are of no use, and torch dies of very many: no more are used, and a warning says so.

    Raises
    ------
    ValueError
        If threads is no whole number of at least 1.
    """
    if threads is not None:
        check_whole("threads", threads, 1)
    check_installed()
    import torch

    cores = os.cpu_count() or 1
    if threads is not None and threads > cores:
        warnings.warn(
            f"this machine has {cores} cores: {cores} threads are used, not {threads}", stacklevel=2
        )
    torch.set_num_threads(max(1, cores // 2) if threads is None else min(threads, cores))


def check_device(device: str) -> None:
    """Raise ValueError unless torch can put a tensor on `device`."""
    import torch

    try:
        usable = torch.empty(1, device=device).device.type != "meta"  # where tensors have no values
    except (RuntimeError, AssertionError, NotImplementedError):
        usable = False
    if not usable:
        choices = ["cpu"]
        if torch.cuda.is_available():
            choices.append("cuda")
        if torch.backends.mps.is_available():
            choices.append("mps")
        raise ValueError(f"device {device!r} is not available; choose from: {', '.join(choices)}")
