"""Files are written to a temporary name in the same folder and renamed: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_open(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success it replaces `path`, on any error it is removed.

    Raises
    ------
    ValueError
        If the folder of `path` does not exist, or `path` is a folder.
    OSError
        If the disk is full or the file cannot be written.
    """
    target = Path(path)
    check_writable(target)
    # mkstemp makes the file private; a finished result gets the permissions any new file would.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuse, before anything is computed, a path whose folder is missing or which is a folder."""
    target = Path(path)
    if not target.parent.is_dir():
        raise ValueError(f"cannot write {str(target)!r}: folder {str(target.parent)!r} does not exist")
    if target.is_dir():
        raise ValueError(f"cannot write {str(target)!r}: it is a folder")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"cannot write {str(target)!r}: folder {str(target.parent)!r} is read-only")


def cells_folder(out: Path) -> Path:
    """Return ``out/cells``, made if missing, without what a run that was killed while writing left there."""
    cells = out / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    for left in cells.glob(".*.tmp"):
        left.unlink(missing_ok=True)
    return cells


def write_json(path: str | os.PathLike[str], document: Any) -> None:
    """Write `document` as indented JSON, atomically; NaN is refused."""
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    with atomic_open(path, "w") as stream:
        stream.write(text)


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits that name a JSON-ready value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_result(path: str | os.PathLike[str], command: str) -> dict[str, Any]:
    """Read the JSON document that a command wrote with ``--out``, in this or an earlier version.

    Raises
    ------
    ValueError
        If there is no such file, or it holds something else.
    """
    if not Path(path).is_file():
        raise ValueError(f"no file {str(path)!r}")
    try:
        document: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        known = {"version", "seed", "parameters", "results"} <= document.keys()
    except (ValueError, AttributeError, RecursionError):
        known = False
    if not known:
        raise ValueError(f"{str(path)!r} is no result of {command}")
    found: dict[str, Any] = document
    return found
