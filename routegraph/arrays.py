"""What the arrays of npz files must be, said as an `Array` by name and checked in one place.

What an array claims to be is read before it is: kind, shape and size, against the bytes that there are; so that a file
of a few megabytes cannot ask for gigabytes.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from routegraph.schema import parsed, shown

#: Bytes from which an archive may not unpack to so many times what it takes: no measured numbers are that alike.
BOMB, TIMES = 64_000_000, 100


@dataclass(frozen=True)
class Array:
    """What an array must be.

    Attributes
    ----------
    kinds : str
        Of numpy: i and u for whole numbers, f for floats, b for truth values, U for text.
    shape : tuple of int or None
        None: of any length.
    low, high : float
        Least and greatest value. Floats are finite in any case.
    rising : bool
        Whether no value is less than the one before.
    """

    kinds: str
    shape: tuple[int | None, ...]
    low: float = -math.inf
    high: float = math.inf
    rising: bool = False

    def check_shape(self, name: str, kind: str, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless an array of this kind and shape may be had."""
        if kind not in self.kinds:
            told = {
                "i": "whole numbers",
                "u": "whole numbers",
                "f": "floats",
                "b": "truth values",
                "U": "text",
            }
            wanted = " or ".join(dict.fromkeys(told[one] for one in self.kinds))
            raise ValueError(f"{name} must hold {wanted}, and holds something else (kind {kind!r})")
        fits = len(shape) == len(self.shape) and all(
            b is None or a == b for a, b in zip(shape, self.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if one is None else str(one) for one in self.shape)
            raise ValueError(f"{name} must have the shape ({wanted}), got {shape}")

    def check(self, name: str, array: NDArray[Any]) -> None:
        """Raise ValueError, naming the value, unless an array is what it must be."""
        self.check_shape(name, array.dtype.kind, array.shape)
        if not array.size or array.dtype.kind == "U":
            return
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, and holds {array[~np.isfinite(array)][0]}")
        least, most = array.min(), array.max()
        if least < self.low or most > self.high:
            bad = least if least < self.low else most
            raise ValueError(f"{name} must be in {self.low:g}..{self.high:g}, and holds {bad:g}")
        if self.rising and (np.diff(array.astype(np.int64)) < 0).any():
            raise ValueError(f"{name} must not fall")


class Arrays:
    """The arrays of an open npz file, each read when it is asked for and checked before and after.

    Attributes
    ----------
    names : frozenset of str
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        self.names = frozenset(self._entries)
        unpacked = sum(entry.file_size for entry in archive.infolist())
        packed = sum(entry.compress_size for entry in archive.infolist())
        if unpacked > BOMB and unpacked > TIMES * packed:
            raise ValueError(
                f"{packed / 1e6:.0f} MB that unpack to {unpacked / 1e9:.1f} GB are no measured numbers"
            )
        if len(self._entries) != len(archive.infolist()):
            raise ValueError("an array is there twice")

    def read(self, name: str, what: Array) -> NDArray[Any]:
        """Return an array; ValueError where there is none, or it is not what it must be."""
        if name not in self._entries:
            raise ValueError(f"{name} is missing")
        entry = self._entries[name]
        with self._archive.open(entry) as stream:
            shape, fortran, kind = _npy_header(stream, name)
            what.check_shape(name, kind.kind, shape)
            size = math.prod(shape) * kind.itemsize
            if size != entry.file_size - stream.tell():
                raise ValueError(
                    f"{name} claims to be {size} bytes, and is {entry.file_size - stream.tell()}"
                )
            flat = np.frombuffer(stream.read(), dtype=kind)
        if flat.nbytes != size:
            raise ValueError(f"{name} is cut off")
        found = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
        found = np.array(found, dtype=kind.newbyteorder("="), order="C")
        what.check(name, found)
        return found

    def document(self, name: str) -> Any:
        """Return a JSON document that is kept as bytes, or as a file of its own; None where there is none."""
        if name not in self._entries:
            return None
        if self._entries[name].filename == name:
            return parsed(self._archive.read(self._entries[name]))
        return parsed(self.read(name, Array("u", (None,), 0, 255)).astype(np.uint8).tobytes())


def _npy_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return what the header of an npy file claims: shape, whether by columns, dtype."""
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, kind = read(stream)
    except (KeyError, ValueError, TypeError, SyntaxError, EOFError, RecursionError, MemoryError):
        raise ValueError(f"{name} is no array") from None
    if not all(isinstance(one, int) and 0 <= one < 2**62 for one in shape):
        raise ValueError(f"{name} claims the shape {shown(shape)}")
    return shape, bool(fortran), kind


#: What zipfile and what it unpacks with raise of a damaged archive. RuntimeError: a flipped bit can make
#: a member look encrypted or packed by another method.
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, struct.error, UnicodeError)


@contextmanager
def opened_arrays(path: str | os.PathLike[str] | IO[bytes], what: str, said: str = "") -> Iterator[Arrays]:
    """Open an npz file.

    Parameters
    ----------
    path : path or binary stream
    what : str
        What an error calls such a file.
    said : str
        How an error names it, by default by its path.

    Raises
    ------
    ValueError
        If there is no such file, it is no archive, or is damaged; also while it is read inside of the ``with``.
    """
    told = said or repr(str(path))
    if isinstance(path, str | os.PathLike):
        try:
            if not Path(path).is_file():
                raise ValueError(f"no {what} {told}")
        except OSError as error:
            raise ValueError(f"cannot read {told}: {error.strerror}") from None
        if not zipfile.is_zipfile(path):
            raise ValueError(f"{told} is not a routegraph {what}, or is damaged")
    try:
        with zipfile.ZipFile(path) as archive:
            yield Arrays(archive)
    except ValueError as error:
        raise ValueError(f"{what} {told} is damaged: {error}") from None
    except BROKEN:
        # What zipfile says may quote the file's bytes: not for the user's eyes.
        raise ValueError(f"{what} {told} is damaged") from None
