"""The cache folder: where it is, whether something fits in it, and making a folder in it exactly once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from routegraph.validate.models.sums import write_sums


class DownloadError(OSError):
    """A model could not be fetched or stored; the message is one plain sentence."""


def cache_folder() -> Path:
    """Return $ROUTEGRAPH_CACHE, else $XDG_CACHE_HOME/routegraph, else ~/.cache/routegraph.

    Raises
    ------
    ValueError
        If there is no home folder.
    """
    if chosen := os.environ.get("ROUTEGRAPH_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "routegraph"
    try:
        return Path.home() / ".cache" / "routegraph"
    except RuntimeError:
        raise ValueError(
            "there is no home folder to keep models in; set ROUTEGRAPH_CACHE to a folder"
        ) from None


def free_bytes() -> int:
    """Return what is free on the disk of the cache folder, which need not exist yet."""
    folder = cache_folder().absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_disk(what: str, need: int) -> None:
    """Raise DownloadError, naming need, free space and folder, where less than `need` bytes are free."""
    free = free_bytes()
    if need > free:
        raise DownloadError(
            f"{what} needs {need / 1e9:.2f} GB of disk in {str(cache_folder())!r}, and {free / 1e9:.2f} GB is free; "
            "set ROUTEGRAPH_CACHE to choose another folder"
        )


def make_once(folder: Path, build: Callable[[Path], None]) -> None:
    """Let `build` fill a folder unless it is there already.

    It is made in a folder beside the target and renamed at the end: no other process ever sees a half-made
    one, a second process waits for the first, and what a killed run left is cleared by the next. The sums of its files
    are kept with them: see `sums.check_sums`.

    Raises
    ------
    OSError
        If it cannot be stored; besides whatever `build` raises.
    """
    if folder.is_dir():
        return
    from filelock import FileLock  # comes with transformers

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.is_dir():
            return
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir()
        try:
            build(partial)
            write_sums(partial)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
