"""What JSON files must hold, said as a schema and checked in one place.

A schema is a `Kind`: a function of a value and of the name of its place that raises ValueError, one sentence, unless
the value is of the kind. Schemas are put together: ``record({"id": text, "counts": listing(whole(0))})``. Names that a
record does not tell of pass: a later version may write more. Arrays: see `routegraph.arrays`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Kind = Callable[[Any, str], None]

#: Bytes of a JSON document that is read at most.
LONGEST = 2_000_000_000


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


def checked(kind: Kind, document: Any, said: str) -> Any:
    """Return a document that was checked; ValueError that begins as `said` where something is wrong."""
    try:
        kind(document, "")
    except ValueError as error:
        raise ValueError(f"{said}: {error}") from None
    return document
