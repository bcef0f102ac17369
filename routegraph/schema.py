"""What files must hold, said as a schema and checked in one place: JSON documents, and arrays in npz files.

A schema of JSON is a `Kind`: a function of a value and of the name of its place that raises ValueError, one sentence,
unless the value is of the kind. Schemas are put together: ``record({"id": text, "counts": listing(whole(0))})``. Names
that a record does not tell of pass: a later version may write more.

A schema of arrays is an `Array` by name. What an array claims to be is read before it is: kind, shape and size, against
the bytes that there are; so that a file of a few megabytes cannot ask for gigabytes.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Kind = Callable[[Any, str], None]

#: Bytes of a JSON document that is read at most.
LONGEST = 2_000_000_000
#: Bytes from which an archive may not unpack to so many times what it takes: no measured numbers are that alike.
BOMB, TIMES = 64_000_000, 100


# --- documents ----------------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """Return a value as an error tells it, shortened."""
    try:
        told = repr(value)
    except (RecursionError, ValueError):  # too deep, or a number of too many digits
        told = type(value).__name__
    return told if len(told) <= 60 else f"{told[:57]}..."


def _wrong(place: str, what: str, value: Any) -> ValueError:
    return ValueError(f"{place or 'the document'} must be {what}, got {shown(value)}")


def anything(value: Any, place: str) -> None:
    """Take every value."""


def text(value: Any, place: str) -> None:
    """Take a text."""
    if not isinstance(value, str):
        raise _wrong(place, "a text", value)


def boolean(value: Any, place: str) -> None:
    """Take true or false."""
    if not isinstance(value, bool):
        raise _wrong(place, "true or false", value)


def whole(low: float = -math.inf, high: float = 2**63) -> Kind:
    """Return a kind that takes whole numbers from `low` to `high`."""
    least = f" of at least {low:g}" if math.isfinite(low) else ""

    def check(value: Any, place: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value:
            raise _wrong(place, f"a whole number{least}", value)
        if value > high:
            raise _wrong(place, f"a whole number of at most {high:g}", value)

    return check


def real(low: float = -math.inf, high: float = math.inf, below: float = math.inf) -> Kind:
    """Return a kind that takes finite numbers from `low` to `high`, less than `below`."""
    if below < math.inf:
        what = f"a number in [{low:g}, {below:g})"
    elif math.isfinite(low) and math.isfinite(high):
        what = f"a number in [{low:g}, {high:g}]"
    else:
        what = "a finite number" + (f" of at least {low:g}" if math.isfinite(low) else "")

    def check(value: Any, place: str) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or abs(value) >= 1e308 or not (low <= value <= high and value < below):
            raise _wrong(place, what, value)

    return check


def one_of(*choices: Any) -> Kind:
    """Return a kind that takes these values only."""

    def check(value: Any, place: str) -> None:
        if not any(type(value) is type(one) and value == one for one in choices):
            raise _wrong(place, f"one of {', '.join(map(str, choices))}", value)

    return check


def maybe(kind: Kind) -> Kind:
    """Return a kind that takes null as well."""

    def check(value: Any, place: str) -> None:
        if value is not None:
            kind(value, place)

    return check


def listing(kind: Kind, length: int | None = None, least: int = 0) -> Kind:
    """Return a kind that takes lists of another kind: of a length, or of a least length."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, list | tuple) or len(value) < least:
            raise _wrong(place, "a list" + (f" of at least {least}" if least else ""), value)
        if length is not None and len(value) != length:
            raise ValueError(f"{place} must be a list of {length}, got {len(value)}")
        for i, one in enumerate(value):
            kind(one, f"{place}[{i}]")

    return check


def table_of(kind: Kind) -> Kind:
    """Return a kind that takes objects of whatever names, their values of another kind."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, Mapping):
            raise _wrong(place, "an object", value)
        for name, one in value.items():
            kind(one, _inside(place, name))

    return check


def record(needed: Mapping[str, Kind], more: Mapping[str, Kind] | None = None) -> Kind:
    """Return a kind that takes objects with the names `needed`, and may have those of `more`, each of its kind."""

    def check(value: Any, place: str) -> None:
        if not isinstance(value, Mapping):
            raise _wrong(place, "an object", value)
        for name, kind in needed.items():
            if name not in value:
                raise ValueError(f"{place or 'the document'} lacks {name!r}")
            kind(value[name], _inside(place, name))
        for name, kind in (more or {}).items():
            if name in value:
                kind(value[name], _inside(place, name))

    return check


#: What numbers are called wherever a result tells them.
_FIGURES = ("mean", "stderr", "theory", "low", "high")


def result_rows(value: Any, place: str) -> None:
    """Take a list of objects in which means, errors and ends of intervals are numbers or null, however deep."""
    listing(table_of(_figures))(value, place)


def _figures(value: Any, place: str) -> None:
    if isinstance(value, Mapping):
        for name, one in value.items():
            if name in _FIGURES and not isinstance(one, Mapping | list):
                maybe(real())(one, _inside(place, name))
            else:
                _figures(one, _inside(place, name))
    elif isinstance(value, list):
        for i, one in enumerate(value):
            _figures(one, f"{place}[{i}]")


def _inside(place: str, name: object) -> str:
    return f"{place}.{name}" if place else str(name)


class NoNumberError(ValueError):
    """NaN and Infinity, which Python's reader takes and JSON does not have."""


def _no_number(told: str) -> None:
    raise NoNumberError(told)


def parsed(source: str | bytes) -> Any:
    """Parse JSON; ValueError, in one sentence, whatever is wrong with it."""
    try:
        return json.loads(source, parse_constant=_no_number)
    except (json.JSONDecodeError, UnicodeDecodeError, NoNumberError):
        raise ValueError("it is not JSON") from None
    except (RecursionError, ValueError):
        raise ValueError("it is nested too deeply, or a number has too many digits") from None


def read_document(path: str | os.PathLike[str], kind: Kind = anything, what: str = "JSON file") -> Any:
    """Read a JSON document and check it.

    Parameters
    ----------
    path : path
    kind : Kind
        What it must be.
    what : str
        What an error calls such a file.

    Raises
    ------
    ValueError
        If there is no such file, or it is something else; which value is wrong is named.
    """
    place = Path(path)
    try:
        if not place.is_file():
            raise ValueError(f"no {what} {str(path)!r}")
        if place.stat().st_size > LONGEST:
            raise ValueError(f"{str(path)!r} is too long for a {what}")
        source = place.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r}: {error.strerror}") from None
    try:
        document = parsed(source)
        kind(document, "")
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no {what}: {error}") from None
    return document


# --- arrays -------------------------------------------------------------------------------------------


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


def checked(kind: Kind, document: Any, said: Sequence[str] | str) -> Any:
    """Return a document that was checked; ValueError that begins as `said` where something is wrong."""
    try:
        kind(document, "")
    except ValueError as error:
        raise ValueError(f"{said}: {error}") from None
    return document
