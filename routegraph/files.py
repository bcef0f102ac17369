"""Files are written to a temporary name in the same folder and renamed: whole or not at all.

Links are followed, permissions kept, and what is no plain file is written to at the end.

Several processes may share a folder of cells: a temporary file is named after the process that writes it, and only
those of dead processes are removed; ``run.json`` is changed under a lock.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from routegraph.schema import (
    anything,
    listing,
    maybe,
    read_document,
    record,
    result_rows,
    table_of,
    text,
    whole,
)

try:
    import fcntl
except ImportError:  # where there is none, processes that share a folder are not kept apart
    fcntl = None  # type: ignore[assignment]

#: What is read of a run.json before more is added, and of any result before its command looks at it.
RUNS = record({}, {"runs": listing(table_of(anything))})
RESULT = record(
    {
        "version": text,
        "seed": maybe(whole(0, math.inf)),
        "parameters": table_of(anything),
        "results": result_rows,
    }
)

#: Name of the file in a shared folder that a process holds while it changes ``run.json``.
LOCK = ".lock"

#: Seconds after which a temporary file is nobody's, where its process cannot be looked up: it ran on another host.
FORGOTTEN = 24 * 3600


@contextmanager
def atomic_open(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success it replaces `path`, on any error it is removed.

    A link is followed, and a file that is there keeps its permissions and owner. What is no plain file (a pipe, a
    device, standard output) is written to and not replaced: everything at the end, nothing on an error.

    Raises
    ------
    ValueError
        If the folder of `path` does not exist, or `path` is a folder.
    OSError
        If the disk is full or the file cannot be written.
    """
    check_writable(path)
    encoding = None if "b" in mode else "utf-8"
    if _is_special(path):
        with tempfile.TemporaryFile(f"{mode}+", encoding=encoding) as stream:
            yield stream
            stream.flush()
            os.lseek(stream.fileno(), 0, os.SEEK_SET)
            with open(stream.fileno(), "rb", closefd=False) as body, open(path, "ab") as special:
                shutil.copyfileobj(body, special)
        return
    target = _followed(path)
    for left in target.parent.glob(f".{glob.escape(target.name[:40])}.*.tmp"):
        if _is_left(left):  # what a killed run has left of this very file
            left.unlink(missing_ok=True)
    # mkstemp makes the file private; a finished result gets the permissions any new file would, or those it had.
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.name[:40]}.{_owner()}.", suffix=".tmp"
    )
    try:
        with os.fdopen(handle, mode, encoding=encoding) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _set_permissions(name, target)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _set_permissions(name: str, target: Path) -> None:
    """Give a new file the owner and permissions of the one it replaces, or those of any new one."""
    umask = os.umask(0)
    os.umask(umask)
    permissions = 0o666 & ~umask
    try:
        before = target.stat()
    except FileNotFoundError:
        pass
    else:
        permissions = stat.S_IMODE(before.st_mode)
        if hasattr(os, "chown"):
            with suppress(OSError):  # only root may give files away
                os.chown(name, before.st_uid, before.st_gid)
    os.chmod(name, permissions)


def _is_special(path: str | os.PathLike[str]) -> bool:
    """Return whether a path leads to something that must not be replaced: no plain file, or an open standard one."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    if stat.S_ISDIR(found.st_mode):
        return False
    if not stat.S_ISREG(found.st_mode):
        return True
    for standard in (1, 2):
        with suppress(OSError):
            if os.path.samestat(found, os.fstat(standard)):
                return True
    return False


def _followed(path: str | os.PathLike[str]) -> Path:
    """Return where a link leads, and any other path as it is."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuse, before anything is computed, a path whose folder is missing or which is a folder."""
    said, target = f"cannot write {os.fspath(path)!r}", _followed(path)
    if not _is_special(path):
        if not target.parent.is_dir():
            raise ValueError(f"{said}: folder {str(target.parent)!r} does not exist")
        if target.is_dir():
            raise ValueError(f"{said}: it is a folder")
        if not os.access(target.parent, os.W_OK):
            raise PermissionError(f"{said}: folder {str(target.parent)!r} is read-only")
    if target.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"{said}: it is read-only")


def check_apart(
    outputs: Mapping[str, str | os.PathLike[str] | None], inputs: Iterable[str | os.PathLike[str]]
) -> None:
    """Refuse an output that is one of the inputs, or belongs to one that is a folder, or is another output.

    Files are told by what they are, links followed, and not by how their paths are written.

    Parameters
    ----------
    outputs : mapping
        Paths by the names of their options; None where one is left out. Folders and what is no plain file pass.
    inputs : iterable of path
        Whatever may be one: what is no path of something that is there passes.
    """
    known: list[tuple[str, str | os.PathLike[str]]] = []
    sources = [source for source in inputs if os.path.exists(source)]
    for name, path in outputs.items():
        if path is None or (os.path.exists(path) and not os.path.isfile(path)):
            continue
        if any(_same(path, source) or _belongs(Path(path), Path(source)) for source in sources):
            raise ValueError(
                f"{name} {os.fspath(path)!r} is what is read, and would be lost; choose another file"
            )
        for other, taken in known:
            if _same(path, taken):
                raise ValueError(f"{other} and {name} both name {os.fspath(path)!r}; choose two files")
        known.append((name, path))


def _same(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Return whether two paths lead to one file, which need not be there yet."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def _belongs(path: Path, folder: Path) -> bool:
    """Return whether a file that is there is part of a folder of cells, or of a model."""
    within, inside = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    if not (within.is_dir() and inside.is_file() and inside.is_relative_to(within)):
        return False
    return inside.name == "run.json" or inside.parent.name == "cells" or (within / "config.json").is_file()


def _owner() -> str:
    """Return what names this process in a temporary file's name: host, number, and start."""
    return f"{_host()}-{os.getpid()}-{_start(os.getpid()) or 0}"


@cache
def _host() -> str:
    """Return digits that name this host; of containers, each has processes of its own."""
    try:
        inside = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        inside = 0
    return digest([platform.node(), inside])[:8]


def _start(process: int) -> int | None:
    """Return when a process started, in ticks since the host did; None where there is none, or it is not told."""
    try:
        told = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return int(told.rpartition(")")[2].split()[19])


def _is_left(path: Path) -> bool:
    """Return whether the process that wrote a temporary file is dead, or the file too old to be anybody's."""
    named = re.search(r"\.([0-9a-f]{8})-([0-9]+)-([0-9]+)\.[^.]*\.tmp$", path.name)
    if named and named[1] == _host() and _start(os.getpid()) is not None:
        return _start(int(named[2])) != int(named[3])
    try:
        return time.time() - path.stat().st_mtime > FORGOTTEN
    except OSError:  # finished meanwhile
        return False


def holds_else(out: Path) -> bool:
    """Return whether a folder without ``run.json`` holds anything else than what opening it writes first."""
    strange = [
        name for name in os.listdir(out) if name != LOCK and not re.match(r"\.run\.json\..*\.tmp$", name)
    ]
    # In this order: another process that opens the folder writes run.json before anything else.
    return bool(strange) and not (out / "run.json").is_file()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for it out of a folder; where the file system knows no locks, go on without."""
    check_writable(folder / LOCK)
    with open(folder / LOCK, "ab") as held:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_EX)
        yield  # closing the file gives the lock back, and so does the end of the process


def open_cells(out: Path, check: Callable[[], None], head: Mapping[str, Any]) -> Path:
    """Return ``out/cells``, made if missing with its ``run.json``, without what dead processes left there.

    Parameters
    ----------
    out : Path
    check : callable
        Raises where the folder is not to be written into; called while no other process opens it.
    head : mapping
        What a new ``run.json`` says.
    """
    check()
    out.mkdir(exist_ok=True)
    with locked(out):
        check()
        if not (out / "run.json").is_file():
            write_json(out / "run.json", head)
    cells = out / "cells"
    cells.mkdir(exist_ok=True)
    for left in (*cells.glob(".*.tmp"), *out.glob(".*.tmp")):
        if _is_left(left):
            left.unlink(missing_ok=True)
    return cells


def note_run(out: Path, entry: Mapping[str, Any]) -> None:
    """Add an entry to the runs in ``run.json``; those of other processes are kept."""
    path = out / "run.json"
    with locked(out):
        document = read_document(path, RUNS, "run.json")
        write_json(path, {**document, "runs": [*document.get("runs", ()), entry]})


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
    found: dict[str, Any] = read_document(path, RESULT, f"result of {command}")
    return found
