"""Cell files of a sweep: integer levels of every replicate, the same bytes for the same inputs.

A cell file is an uncompressed npz (``numpy.load`` reads it) with a ``cell.json`` inside; its last 64 bytes, the
comment of the archive, are the SHA-256 of all bytes before them. It holds no time, host, worker count or
package version.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.arrays import Array, Arrays, opened_arrays
from routegraph.files import atomic_open
from routegraph.memory import REPLICATES
from routegraph.schema import (
    anything,
    maybe,
    real,
    record,
    table_of,
    text,
    whole,
)
from routegraph.sim.observables import Sample
from routegraph.sim.parameters import Parameters, from_document

FORMAT, FORMAT_VERSION = "routegraph cell", 1
OWNERS = ("ensemble_parameters", "policy_parameters", "profile_parameters")
_HISTOGRAMS = ("last_model", "last_layer", "reach")
_TABLES = ("answer_last_model", "answer_last_layer", "answer_reach")
_DIGEST = 64

Packed = dict[str, NDArray[Any]]


class DamagedCellError(ValueError):
    """A cell file that cannot be trusted: truncated, tampered with, or not a cell file at all."""


def describe(parameters: Parameters) -> dict[str, Any]:
    """Return parameters as JSON-ready values, settings merged, as in the results of `simulate`."""
    shown = {name: plain(value) for name, value in asdict(parameters).items()}
    settings = {name: value for owner in OWNERS for name, value in shown.pop(owner)}
    return {**shown, "settings": settings}


def canonical(parameters: Parameters) -> str:
    """Return the text that names a cell: its parameters that differ from their defaults, sorted.

    Defaults are left out so that a parameter added later gives no known cell a new name.
    """
    told: dict[str, Any] = {}
    for field in fields(parameters):
        value = getattr(parameters, field.name)
        if isinstance(field.default, float):
            value = float(value)
        if value != field.default:
            told[field.name] = dict(value) if field.name in OWNERS else value
    return json.dumps(told, sort_keys=True, separators=(",", ":"), default=plain, allow_nan=False)


def cell_number(parameters: Parameters) -> int:
    """Return the 32-bit number of a cell in its replicates' spawn keys, a function of its parameters only."""
    return int(hashlib.sha256(canonical(parameters).encode()).hexdigest()[:8], 16)


def cell_name(parameters: Parameters, ratio: float | None = None) -> str:
    """Return the file name of a cell; one of a policy that is not nested also holds its ratio."""
    text = canonical(parameters) + ("" if ratio is None else f"@{float(ratio)!r}")
    return hashlib.sha256(text.encode()).hexdigest()[:16] + ".npz"


def plain(value: Any) -> Any:
    """Return numpy scalars and tuples as what JSON knows."""
    if isinstance(value, np.generic):
        return value.item()
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value


# --- replicates, packed -----------------------------------------------------------------------------


def pack(sample: Sample) -> Packed:
    """Return a sample with its histograms as (levels, gaps, counts) of the bins that are not empty."""
    packed: Packed = {"bins": np.array([sample.reach.shape[1]])}
    for name in _HISTOGRAMS:
        histogram = getattr(sample, name)
        row, level = np.nonzero(histogram)
        length = np.bincount(row, minlength=len(histogram))
        gap = np.diff(level, prepend=0)
        starts = np.cumsum(length)[:-1]
        gap[starts[starts < len(gap)]] = level[starts[starts < len(gap)]]
        packed |= {f"{name}.length": length, f"{name}.gap": gap, f"{name}.count": histogram[row, level]}
    return packed | {name: np.asarray(getattr(sample, name)) for name in _TABLES}


def unpack(packed: Mapping[str, NDArray[Any]], first: int = 0, last: int | None = None) -> Sample:
    """Return replicates first..last-1 of a packed sample."""
    bins, rows = int(packed["bins"][0]), slice(first, last)
    made: dict[str, NDArray[Any]] = {name: packed[name][rows] for name in _TABLES}
    for name in _HISTOGRAMS:
        ends = np.concatenate([[0], np.cumsum(packed[f"{name}.length"], dtype=np.int64)])
        chosen = ends[first:] if last is None else ends[first : last + 1]
        gap = packed[f"{name}.gap"][chosen[0] : chosen[-1]].astype(np.int64)
        count = packed[f"{name}.count"][chosen[0] : chosen[-1]]
        length = np.diff(chosen)
        row = np.repeat(np.arange(len(length)), length)
        total = np.cumsum(gap)
        before = np.concatenate([[0], total])[chosen[:-1] - chosen[0]]
        histogram = np.zeros((len(length), bins), dtype=np.int64)
        histogram[row, total - before[row]] = count
        made[name] = histogram
    return Sample(**made)


def join(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Packed:
    """Return packed samples one after the other."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "bins"}
    return {"bins": np.asarray(parts[0]["bins"]), **joined}


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Return integers in the smallest type that holds them, little-endian."""
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    for kind in ("u1", "<u2", "<u4", "<u8") if low >= 0 else ("i1", "<i2", "<i4", "<i8"):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    raise ValueError(f"no integer type holds {low}..{high}")


# --- files ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell of a sweep with its replicates 0..replicates-1.

    Attributes
    ----------
    parameters : Parameters
    seed, number : int
        A replicate draws from ``SeedSequence(seed, spawn_key=(number, replicate))``.
    ratio : float or None
        The one ratio it holds for, where the policy is not nested.
    packed : dict of str to int array
        Levels of all replicates (`pack`).
    """

    parameters: Parameters
    seed: int
    ratio: float | None
    packed: Packed

    @property
    def number(self) -> int:
        """The 32-bit number of the cell."""
        return cell_number(self.parameters)

    @property
    def name(self) -> str:
        """File name."""
        return cell_name(self.parameters, self.ratio)

    @property
    def replicates(self) -> int:
        """Number of replicates held."""
        return len(self.packed["answer_reach"])

    def samples(self, replicates: int | None = None, block: int = 256) -> Iterator[Sample]:
        """Yield the first `replicates` (default: all), a block at a time."""
        total = self.replicates if replicates is None else replicates
        for first in range(0, total, block):
            yield unpack(self.packed, first, min(first + block, total))


def encode(cell: Cell) -> bytes:
    """Return the bytes of a cell file."""
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "seed": int(cell.seed),
        "cell": cell.number,
        "ratio": cell.ratio,
        "replicates": cell.replicates,
        "parameters": describe(cell.parameters),
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = b"0" * _DIGEST
        _add(archive, "cell.json", (json.dumps(header, indent=1, sort_keys=True) + "\n").encode())
        for name in sorted(cell.packed):
            content = io.BytesIO()
            np.lib.format.write_array(content, _narrow(cell.packed[name]), version=(1, 0))
            _add(archive, f"{name}.npy", content.getvalue())
    body = stream.getvalue()[:-_DIGEST]
    return body + hashlib.sha256(body).hexdigest().encode()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3  # whatever the operating system
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def decode(data: bytes, where: str) -> Cell:
    """Return the cell that `encode` made `data` of.

    Raises
    ------
    DamagedCellError
        If a byte is missing or changed, or `data` is something else; `where` is named.
    """
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if data[:2] != b"PK":
        raise DamagedCellError(f"cell file {where!r} is damaged: not a cell file")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise DamagedCellError(f"cell file {where!r} is damaged: truncated or changed (checksum differs)")
    try:
        with opened_arrays(io.BytesIO(data), "cell file", repr(where)) as arrays:
            header = arrays.document("cell.json")
            _HEADER(header, "")
            if header["format"] != FORMAT or header["format_version"] > FORMAT_VERSION:
                raise ValueError("it is of another kind or of a later version")
            parameters = from_document(header)
            packed = _unpacked(arrays, parameters, header["ratio"], header["replicates"])
            cell = Cell(parameters, header["seed"], header["ratio"], packed)
            if cell.number != header["cell"]:
                raise ValueError("its header does not fit its content")
    except ValueError as error:
        raise DamagedCellError(str(error)) from None
    return cell


_HEADER = record(
    {
        "format": text,
        "format_version": whole(1),
        "seed": whole(0, math.inf),
        "cell": whole(0),
        "ratio": maybe(real(0, below=1)),
        "replicates": whole(1, REPLICATES),
        "parameters": table_of(anything),
    }
)


def _unpacked(arrays: Arrays, parameters: Parameters, ratio: float | None, replicates: int) -> Packed:
    """Return the arrays of a cell, each checked, so that no level lies outside of its histogram."""
    layers, _, n = parameters.shape
    top = 1 if ratio is not None else parameters.levels_of().max_level
    levels = Array("iu", (replicates, parameters.n_answers), 0, top + 1)
    packed = {
        "bins": arrays.read("bins", Array("iu", (1,), top + 2, top + 2)),
        "answer_last_model": arrays.read("answer_last_model", levels),
        "answer_reach": arrays.read("answer_reach", replace(levels, low=-1, high=top)),
        "answer_last_layer": arrays.read(
            "answer_last_layer", replace(levels, shape=(replicates, layers, parameters.n_answers))
        ),
    }
    for name, total in (("last_model", n), ("last_layer", n * layers), ("reach", n)):
        length = arrays.read(f"{name}.length", Array("iu", (replicates,), 1, top + 2)).astype(np.int64)
        bins = int(length.sum())
        gap = arrays.read(f"{name}.gap", Array("iu", (bins,), 0, top + 1))
        count = arrays.read(f"{name}.count", Array("iu", (bins,), 1, total))
        starts = np.cumsum(length) - length
        sums = (np.add.reduceat(one.astype(np.int64), starts) for one in (gap, count))
        if any((found > most).any() for found, most in zip(sums, (top + 1, total), strict=True)):
            raise ValueError(f"{name} has levels or counts that cannot be")
        packed |= {f"{name}.length": length, f"{name}.gap": gap, f"{name}.count": count}
    return packed


def write_cell(folder: Path, cell: Cell) -> Path:
    """Write a cell into `folder`, whole or not at all; returns the file."""
    path = folder / cell.name
    with atomic_open(path) as stream:
        stream.write(encode(cell))
    return path


def read_cell(path: str | os.PathLike[str]) -> Cell:
    """Read a cell file.

    Raises
    ------
    DamagedCellError
        If the file is truncated, tampered with or no cell file, or lies under the name of another cell.
    """
    where = Path(path)
    if not where.is_file():
        raise ValueError(f"no such file: {str(path)!r}")
    cell = decode(where.read_bytes(), str(path))
    if where.name != cell.name:
        raise DamagedCellError(
            f"cell file {str(path)!r} clashes: its parameters belong into {cell.name!r}, not under this name"
        )
    return cell
