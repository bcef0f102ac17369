"""Checksums of what lies in the cache: worked out once, when it is made, and looked at again when it is loaded."""

from __future__ import annotations

import hashlib
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from routegraph.files import write_json
from routegraph.schema import read_document, record, table_of, text, whole

#: Beside the files that it tells of.
SUMS = "sums.json"
_SUMS = record({"files": table_of(record({"sha256": text, "size": whole(0), "changed": whole(0, math.inf)}))})


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Write the SHA-256, size and time of every file of a folder into it."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    write_json(folder / SUMS, {"files": {path.name: _told(path, sha256_of(path)) for path in files}})


def check_sums(folder: Path, name: str) -> None:
    """Refuse a folder of the cache of which a file is not what it was when it was made.

    Size and time are looked at; where one of them differs, the sum is worked out again. A folder without sums, which
    an earlier version made, passes.

    Parameters
    ----------
    folder : Path
    name : str
        What the model is called in errors.

    Raises
    ------
    ValueError
        If a file is missing or has changed; it is named.
    """
    if not (folder / SUMS).exists():
        return
    files = read_document(folder / SUMS, _SUMS, "file of sums")["files"]
    touched = False
    for file, told in files.items():
        path = folder / file
        now = _told(path, told["sha256"]) if path.is_file() else {}
        if now == told:
            continue
        if not now or now["size"] != told["size"] or sha256_of(path) != told["sha256"]:
            raise ValueError(
                f"model {name!r} is damaged in the cache: {str(path)!r} is not what it was when it was made; remove "
                "its folder, and it is made again"
            )
        files[file], touched = now, True
    if touched:  # a copy of the cache: next time the look is cheap again
        with suppress(OSError):
            write_json(folder / SUMS, {"files": files})


def _told(path: Path, sha256: str) -> dict[str, Any]:
    known = path.stat()
    return {"sha256": sha256, "size": known.st_size, "changed": known.st_mtime_ns}
