"""Ways in which a good file is spoilt."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from routegraph.files import digest

Document = Any
Place = tuple[Any, ...]

GONE = object()


def nested(depth: int) -> str:
    """Return JSON text so deep that it cannot be parsed by recursion."""
    return "[" * depth + "]" * depth


#: What any value of a JSON document is replaced by.
VALUES: dict[str, Any] = {
    "null": None,
    "list": [],
    "object": {},
    "text": "x",
    "negative": -1,
    "huge": 10**30,
    "fraction": 0.5,
    "nan": float("nan"),
    "infinite": float("inf"),
    "true": True,
    "escape": "\x1b]0;x\x07\x1b[31m[bold]$\\frac{$\n\0",
    "missing": GONE,
}


def places(document: Document, before: Place = ()) -> Iterator[Place]:
    """Yield where every value of a document is, its own place first."""
    yield before
    if isinstance(document, dict):
        for name, value in document.items():
            yield from places(value, (*before, name))
    elif isinstance(document, list):
        for i in range(min(len(document), 2)):
            yield from places(document[i], (*before, i))


def replaced(document: Document, place: Place, value: Any) -> Document:
    """Return a document in which another value stands at a place, or none."""
    if not place:
        return {} if value is GONE else value
    made = copy.deepcopy(document)
    inside = made
    for step in place[:-1]:
        inside = inside[step]
    if value is GONE:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return made


def sample(document: Document, how_many: int, seed: int) -> Iterator[tuple[str, Document]]:
    """Yield documents with one value replaced, and what was done; places and values drawn without replacement."""
    drawn = [(place, name) for place in places(document) for name in VALUES]
    random.Random(seed).shuffle(drawn)
    # The upper places first among those drawn: most of a document's readers look there.
    for place, name in sorted(drawn[:how_many], key=lambda one: len(one[0])):
        yield f"{'.'.join(map(str, place)) or 'document'} {name}", replaced(document, place, VALUES[name])


def resealed(cell: Mapping[str, Any]) -> Any:
    """Return a cell with the checksum that fits: whoever tampers with it can do that, too."""
    if not isinstance(cell, dict):
        return cell
    content = {name: value for name, value in cell.items() if name != "checksum"}
    return {**content, "checksum": digest(content)}


def write(path: Path, document: Document) -> None:
    """Write JSON as Python does, NaN included."""
    path.write_text(json.dumps(document), encoding="utf-8")


def read_arrays(path: Path) -> dict[str, Any]:
    """Return all arrays of an npz file."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def trace_with(source: Path, target: Path, change: Callable[[dict[str, Any], Document], None]) -> None:
    """Write a trace file whose arrays and header `change` has altered in place."""
    arrays = read_arrays(source)
    header = json.loads(arrays["header"].tobytes())
    change(arrays, header)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez_compressed(target, **arrays)


def bomb(
    source: Path, target: Path, member: str, gigabytes: float, told: tuple[int, ...] | None = None
) -> None:
    """Write an npz file of a few megabytes of which a member unpacks to gigabytes of zeros."""
    size = int(gigabytes * 1e9)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": told or (size,)}
    )
    with zipfile.ZipFile(source) as good, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name in good.namelist():
            if name != f"{member}.npy":
                made.writestr(name, good.read(name))
        with made.open(f"{member}.npy", "w", force_zip64=True) as stream:
            stream.write(head.getvalue())
            block = b"\0" * 10_000_000
            for _ in range(size // len(block)):
                stream.write(block)


def npy_lies(source: Path, target: Path, member: str, shape: tuple[int, ...], kind: str = "<f4") -> None:
    """Write an npz file of which a member's header tells a shape that its bytes do not have."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": kind, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(source) as good, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name in good.namelist():
            made.writestr(name, head.getvalue() if name == f"{member}.npy" else good.read(name))


def cell_of_sweep(source: Path, target: Path, change: Callable[[dict[str, Any], Document], None]) -> None:
    """Write a sweep's cell whose arrays and header `change` has altered, with the checksum that fits."""
    import hashlib

    with zipfile.ZipFile(source) as archive:
        header = json.loads(archive.read("cell.json"))
    arrays = read_arrays(source)
    arrays = {name: array for name, array in arrays.items() if name != "cell.json"}
    change(arrays, header)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = b"0" * 64
        archive.writestr("cell.json", json.dumps(header))
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array)
            archive.writestr(f"{name}.npy", content.getvalue())
    body = stream.getvalue()[:-64]
    target.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
