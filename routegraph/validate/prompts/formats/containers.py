"""From the bytes of a file to its rows: JSONL, JSON, CSV and parquet, told apart by content."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from routegraph.validate.prompts.formats.base import Table

_PARQUET = b"PAR1"
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ": "xz",
}
#: What may stand between the fields of a CSV.
_DELIMITERS = ",;\t|"


def read_table(data: bytes, name: str) -> Table:
    """Return the rows of a file.

    Raises
    ------
    ValueError
        If it is packed, no UTF-8 text, empty, a broken parquet or CSV, or parquet and pyarrow is not there.
    """
    if data.startswith(_PARQUET):
        return _parquet(data, name)
    for magic, kind in _PACKED.items():
        if data.startswith(magic):
            raise ValueError(f"prompts file {name!r} is packed ({kind}); unpack it first")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"prompts file {name!r} is not UTF-8 text (byte {error.start})") from None
    start = text.lstrip()[:1]
    if not start:
        raise ValueError(f"{name} holds no prompts")
    if start in "{[":
        return _json(text, name)
    return _csv(text, name)


def _json(text: str, name: str) -> Table:
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return _json_lines(text, name)
    if isinstance(document, dict) and "\n" not in text.strip():
        return _json_lines(text, name)  # one object is one line
    if isinstance(document, list):
        return _rows(document, "JSON", name, text)
    if isinstance(document.get("data"), list) and not any(
        _holds(one, "paragraphs") for one in document["data"]
    ):
        return _rows(document["data"], "JSON", name, text)
    return Table(name, "JSON", text=text, document=document)


def _json_lines(text: str, name: str) -> Table:
    rows, broken = [], []
    # Not splitlines: JSON strings may hold separators such as U+2028 unescaped.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            broken.append((number, f"no JSON ({error.msg}, column {error.colno})"))
        except RecursionError:
            broken.append((number, "no JSON that can be read (too many brackets)"))
        else:
            if isinstance(row, dict):
                rows.append((number, row))
            else:
                broken.append((number, "no JSON object"))
    if len(rows) == 1 and not broken and _nested(rows[0][1]):
        return Table(name, "JSON", text=text, document=rows[0][1])
    return Table(name, "JSONL", tuple(rows), tuple(broken), text)


def _rows(listed: list[Any], container: str, name: str, text: str = "") -> Table:
    numbered = list(enumerate(listed, start=1))
    rows = tuple((number, row) for number, row in numbered if isinstance(row, dict))
    broken = tuple((number, "no JSON object") for number, row in numbered if not isinstance(row, dict))
    document = listed if any(_nested(row) for _, row in rows) else None
    return Table(name, container, rows, broken, text, document)


def _nested(value: Any) -> bool:
    return _holds(value, "paragraphs") or (isinstance(value, dict) and isinstance(value.get("data"), list))


def _holds(value: Any, field: str) -> bool:
    return isinstance(value, dict) and isinstance(value.get(field), list)


def _csv(text: str, name: str) -> Table:
    header_line = text.lstrip().partition("\n")[0]
    delimiter = max(_DELIMITERS, key=header_line.count)
    rows, broken = [], []
    try:
        with any_size():
            # Strict: a quote that is never closed would else swallow the rest of the file.
            lines = [
                line
                for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
                if line
            ]
    except csv.Error as error:
        raise ValueError(f"{name} is read as CSV, and is none: {error}") from None
    header = [column.strip() for column in lines[0]]
    twice = next((column for column in header if column and header.count(column) > 1), None)
    if twice:
        raise ValueError(f"{name}: column {twice!r} stands twice in the header; rename one")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) == len(header):
            rows.append((number, dict(zip(header, line, strict=True))))
        else:
            broken.append((number, f"has {len(line)} fields, and the header {len(header)}"))
    if not rows and len(header) > 1:
        raise ValueError(
            f"{name} holds no prompts: of its CSV {'no row fits the header' if broken else 'only the header is there'}"
        )
    return Table(name, "CSV", tuple(rows), tuple(broken), text, document=None if rows else header)


@contextmanager
def any_size() -> Iterator[None]:
    """Let CSV fields be as long as contexts are; the limit is the csv module's, so it is put back."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _parquet(data: bytes, name: str) -> Table:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(
            f"{name} is parquet, which needs pyarrow: pip install pyarrow (the extra [models] brings it)"
        ) from None
    try:
        rows = parquet.read_table(io.BytesIO(data)).to_pylist()
    except Exception as error:  # pyarrow's errors have no common class but OSError and ValueError
        raise ValueError(f"{name} is broken parquet: {str(error).splitlines()[0]}") from None
    return _rows(rows, "parquet", name)
