"""Cell files of a measurement or a prediction: one JSON document an item, the same bytes for the same inputs.

A folder holds ``run.json`` (settings, and of every run: version, time, host) and ``cells/``, a file an item. A cell
knows its name, the digest of the settings it was measured with, and a checksum of itself.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routegraph import files
from routegraph._version import __version__
from routegraph.files import atomic_open, digest, holds_else, open_cells
from routegraph.protection import Protection, structural_cliffs
from routegraph.schema import Kind, anything, checked, read_document, record, text
from routegraph.tables import many
from routegraph.validate.graders import FORMER
from routegraph.validate.measure.schema import RUN
from routegraph.validate.models.blocks import layers_told
from routegraph.validate.models.load import Loaded
from routegraph.validate.work import Work, compute

FORMAT_VERSION = 1

#: What a folder may hold, and the command that writes it.
MEASUREMENT, PREDICTION = "measurement", "prediction"
COMMANDS = {MEASUREMENT: "measure", PREDICTION: "predict"}

#: Settings that earlier versions did not record, and what these versions did.
FORMERLY: dict[str, Any] = {"grader": FORMER, "metrics": True}
#: Settings that follow from others: a folder of an earlier version that lacks them is continued.
IMPLIED = frozenset(("family", "cache_row"))


@dataclass(frozen=True)
class Cells:
    """The cells of a run: where they are kept, and what they were measured with.

    Attributes
    ----------
    settings : mapping
    out : Path or None
        Folder of the run; None: nothing is kept.
    kind : str
        `MEASUREMENT` or `PREDICTION`.
    holds : Kind
        What a cell that is there must be: see `routegraph.schema`.
    skip_damaged : bool
        Whether a damaged cell counts as one that is not there, and a warning names it.
    threads : int or None
        Threads of torch that the folder's cells are computed with; None: it does not say.
    """

    settings: Mapping[str, Any]
    out: Path | None = None
    kind: str = MEASUREMENT
    holds: Kind = anything
    skip_damaged: bool = False
    threads: int | None = None

    @classmethod
    def open(
        cls,
        out: str | os.PathLike[str] | None,
        settings: Mapping[str, Any],
        kind: str = MEASUREMENT,
        holds: Callable[[Mapping[str, Any]], Kind] = lambda settings: anything,
        skip_damaged: bool = False,
        work: Work | None = None,
    ) -> Cells:
        """Open a folder, made if missing, where `work` is to compute its cells; ValueError as `open_folder`.

        `holds` says what cells must be, by the settings.
        """
        if out is None:
            return cls(settings, None, kind)
        open_folder(Path(out), settings, kind, work)
        # As the folder records them: the digest in its cells is of these.
        run = read_run(out, kind)
        settings = run["settings"]
        return cls(settings, Path(out), kind, holds(settings), skip_damaged, run.get("threads"))

    def has(self, name: str) -> bool:
        """Return whether a cell is there already, whole or not."""
        path = self._path(name)
        return path is not None and path.exists()

    def find(self, name: str) -> dict[str, Any] | None:
        """Return a cell that is there already, None where it is not; ValueError as `read_cell`."""
        path = self._path(name)
        if path is None or not path.exists():
            return None
        try:
            return read_cell(path, self.settings, self.holds)
        except DamagedCellError as error:
            if not self.skip_damaged:
                raise
            warnings.warn(f"worked out again: {error}", stacklevel=2)
            return None

    def keep(self, name: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Seal the content of a cell, write it, and return it."""
        cell, path = sealed({"name": name, **content}, self.settings, self.kind), self._path(name)
        if path is not None:
            write_cell(path, cell)
        return cell

    def fill(
        self,
        model: Loaded,
        function: Callable[..., Mapping[str, Any]],
        items: Sequence[tuple[str, str, tuple[Any, ...]]],
        work: Work,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Return all cells of a run, making those that are not there yet.

        Parameters
        ----------
        model : Loaded
        function : callable
            ``function(model, *arguments)`` returns the content of a cell; see `routegraph.validate.work.compute`.
        items : sequence of (str, str, tuple)
            Name of each cell, what progress calls it, and the arguments that it is made with.
        work : Work
            Who makes them.
        progress : callable, optional
            Called as ``progress(done, total, label)``; where this process makes the cells, of long contexts layer by
            layer.
        """
        cells: dict[str, dict[str, Any]] = {}
        started, made, labels = time.time(), 0, {name: label for name, label, _ in items}
        now = ""

        def told(label: str) -> None:
            if progress:
                progress(len(cells), len(items), label)

        def missing() -> Iterator[tuple[str, tuple[Any, ...]]]:
            nonlocal now
            for name, label, arguments in items:
                told(label)
                now = label
                cell = self.find(name)
                if cell is None:
                    yield name, arguments
                else:
                    cells[name] = cell

        # Closed at once where a cell cannot be written: nobody works on.
        with (
            layers_told(model.model, lambda layer: told(f"{now}, layer {layer}/{model.n_layers}")),
            closing(compute(model, function, missing(), work, self.threads)) as contents,
        ):
            for name, content in contents:
                cells[name] = self.keep(name, content)
                made += 1
                told(labels[name])
        told("done")
        self.note_run(len(items), made, time.time() - started)
        return [cells[name] for name, _, _ in items]

    def note_run(self, prompts: int, measured: int, seconds: float) -> None:
        """Note a run of so many prompts, some of them measured in it."""
        if self.out is not None:
            note_run(self.out, prompts, measured, seconds)

    def _path(self, name: str) -> Path | None:
        return None if self.out is None else self.out / "cells" / f"{name}.json"


def sealed(
    content: Mapping[str, Any], settings: Mapping[str, Any], kind: str = MEASUREMENT
) -> dict[str, Any]:
    """Return the content of a cell with what it is, the settings' digest and a checksum."""
    head = {
        "format": f"routegraph {kind} cell",
        "format_version": FORMAT_VERSION,
        "settings": digest(dict(settings)),
    }
    cell = {**head, **content}
    return {**cell, "checksum": digest(cell)}


def unsealed(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a cell that was sealed."""
    seal = ("format", "format_version", "settings", "name", "checksum")
    return {name: value for name, value in cell.items() if name not in seal}


def write_cell(path: Path, cell: Mapping[str, Any]) -> None:
    """Write a sealed cell, whole or not at all."""
    with atomic_open(path, "w") as stream:
        stream.write(json.dumps(cell, ensure_ascii=False, allow_nan=False) + "\n")


class DamagedCellError(ValueError):
    """A cell file that cannot be trusted: cut off, tampered with, or no cell at all."""


_SEALED = record({"settings": text, "checksum": text}, {"name": text})


def read_cell(path: Path, settings: Mapping[str, Any], holds: Kind = anything) -> dict[str, Any]:
    """Read a cell.

    Raises
    ------
    DamagedCellError
        If it is damaged or not what it must be.
    ValueError
        If it was measured with other settings, or is a copy under another name.
    """
    said = f"cell file {str(path)!r} is damaged"
    try:
        cell = read_document(path, _SEALED, "cell")
    except ValueError:
        raise DamagedCellError(f"{said}: no cell; remove it to measure it again") from None
    checksum = cell.pop("checksum")
    if digest(cell) != checksum:
        raise DamagedCellError(f"{said} (checksum differs); remove it to measure it again")
    if cell["settings"] != digest(dict(settings)):
        raise ValueError(f"cell file {str(path)!r} was measured with other settings than its folder")
    if cell.get("name", path.stem) != path.stem:
        raise ValueError(
            f"cell file {str(path)!r} is {cell['name'] + path.suffix!r} under another name; remove it, so that its "
            "item is not counted twice"
        )
    try:
        holds(cell, "")
    except ValueError as error:
        raise DamagedCellError(f"{said}: {error}; remove it to measure it again") from None
    return {**cell, "checksum": checksum}


def read_cells(
    out: str | os.PathLike[str],
    settings: Mapping[str, Any],
    holds: Kind = anything,
    skip_damaged: bool = False,
) -> dict[str, dict[str, Any]]:
    """Return all cells of a folder by their names, sorted by the items' ids.

    skip_damaged: leave damaged ones out, each named by a warning, instead of stopping at the first.

    Raises
    ------
    ValueError
        As `read_cell`; also where two files of an earlier version, which recorded no names, hold the same cell.
    """
    cells: dict[str, dict[str, Any]] = {}
    seen: dict[str, Path] = {}
    for path in sorted((Path(out) / "cells").glob("*.json")):
        try:
            cell = read_cell(path, settings, holds)
        except DamagedCellError as error:
            if not skip_damaged:
                raise ValueError(f"{error}, or ask to skip damaged cells") from None
            warnings.warn(f"left out: {error}", stacklevel=2)
            continue
        cells[path.stem] = cell
        first = seen.setdefault(cell["checksum"], path)
        if first != path:
            raise ValueError(
                f"cell files {first.name!r} and {path.name!r} of {str(out)!r} are the same; remove the copy, so that "
                "its item is not counted twice"
            )
    return dict(sorted(cells.items(), key=lambda named: str(named[1]["prompt"]["id"])))


def read_run(out: str | os.PathLike[str], kind: str = MEASUREMENT) -> dict[str, Any]:
    """Return run.json of a folder; ValueError where there is none or it is of another kind."""
    try:
        document: Any = read_document(Path(out) / "run.json")
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("format") != f"routegraph {kind}":
        raise ValueError(f"{str(out)!r} is no folder of routegraph {COMMANDS[kind]}")
    checked(RUN, document, f"run.json of {str(out)!r} is damaged")
    if document["format_version"] > FORMAT_VERSION:
        raise ValueError(f"{str(out)!r} was written by a later version of routegraph; upgrade to read it")
    found: dict[str, Any] = document
    return found


def is_measurement(path: str | os.PathLike[str]) -> bool:
    """Return whether it is a folder that `measure` wrote."""
    try:
        document = read_document(Path(path) / "run.json")
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("format") == f"routegraph {MEASUREMENT}"


def check_folder(out: Path, kind: str = MEASUREMENT) -> None:
    """Refuse, before anything is loaded, what can be no folder of cells: a file, or a folder with something else."""
    check_place(out)
    if out.is_dir() and holds_else(out):
        raise ValueError(f"{str(out)!r} holds no {kind}: choose an empty or a new folder")


def check_place(out: Path) -> None:
    """Refuse what can be no folder and where none can be made."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"cannot write cells into {str(out)!r}: it is a file")
    if not out.parent.is_dir():
        raise ValueError(f"cannot write {str(out)!r}: folder {str(out.parent)!r} does not exist")


def open_folder(
    out: Path, settings: Mapping[str, Any], kind: str = MEASUREMENT, work: Work | None = None
) -> Path:
    """Return the folder of the cell files, made if missing; of who is to compute them, it keeps torch's threads.

    Raises
    ------
    ValueError
        If `out` is a file, or holds something else or what was measured with other settings, or with another number
        of threads than `work` names.
    """

    def check() -> None:
        check_folder(out, kind)
        if (out / "run.json").is_file():
            _check_settings(out, settings, kind)
            _check_threads(out, kind, work)

    head: dict[str, Any] = {"format": f"routegraph {kind}", "format_version": FORMAT_VERSION}
    if work is not None:
        head["threads"] = work.n_threads()
    return open_cells(out, check, {**head, "settings": settings, "runs": []})


def _check_settings(out: Path, settings: Mapping[str, Any], kind: str) -> None:
    """Raise ValueError unless a folder's cells were measured with the same settings."""
    known = {**FORMERLY, **read_run(out, kind)["settings"]}
    for name in dict.fromkeys((*settings, *known)):
        if name in IMPLIED and not (name in settings and name in known):
            continue
        value = settings.get(name, FORMERLY.get(name))
        if name == "plugins" and value and known.get(name) not in (None, value):
            files_read = ", ".join(map(repr, value))
            raise ValueError(
                f"{str(out)!r} was measured with another text of {files_read}; choose another folder"
            )
        if known.get(name) != value:
            raise ValueError(
                f"{str(out)!r} was measured with {name} {known.get(name)}, not {value}; choose another folder"
            )


def _check_threads(out: Path, kind: str, work: Work | None) -> None:
    """Raise ValueError where another number of torch's threads is named than the folder's."""
    known = read_run(out, kind).get("threads")
    if work is None or work.threads is None or known is None:
        return
    if work.n_threads() != known:
        raise ValueError(
            f"{str(out)!r} was measured with {many(known, 'thread')} of torch, not {work.n_threads()}, and sums differ "
            "with that in their last digits; leave threads out, or choose another folder"
        )


def note_run(out: Path, prompts: int, measured: int, seconds: float) -> None:
    """Add this run to run.json: everything that the cell files must not hold."""
    packages = ("torch", "transformers", "kvpress", "numpy")
    entry = {
        "version": __version__,
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 1),
        "prompts": prompts,
        "measured": measured,
        "platform": platform.platform(),
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }
    files.note_run(out, entry)


def cliffs_of(cells: Sequence[Mapping[str, Any]], policy: str) -> dict[str, float]:
    """Return the ratios at which a policy's protected rows fill its budget."""
    protections = [Protection.of(cell["protected"][policy]) for cell in cells]
    return structural_cliffs(protections, [int(cell["prompt"]["n_context"]) for cell in cells])
