"""`replay`: rebuild what is in a file, and say identical or where the first difference is."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from routegraph.schema import read_document
from routegraph.sim import store
from routegraph.sim.measures import measures
from routegraph.sim.observables import Sample
from routegraph.sim.parameters import RETOLD, from_document
from routegraph.sim.run import run_replicate

_UNITS = {
    "last_model": "level",
    "last_layer": "level",
    "reach": "bin (threshold + 1)",
    "answer_last_model": "answer token",
    "answer_last_layer": "(layer, answer token)",
    "answer_reach": "answer token",
}


def replay(path: str | os.PathLike[str], replicates: Iterable[int] | None = None) -> tuple[int, str | None]:
    """Rebuild replicates of a cell file from their seeds.

    Parameters
    ----------
    path : path
        A cell file of a sweep, or the JSON result of `simulate`.
    replicates : iterable of int, optional
        Which of a cell file; all by default. A result of `simulate` holds means only: all are run again, and none
        can be chosen.

    Returns
    -------
    (int, str or None)
        How many were rebuilt, and the first difference (None: identical).

    Raises
    ------
    ValueError
        If the file is damaged, a replicate is not in it, or replicates are chosen of means.
    """
    if Path(path).suffix == ".json":
        if replicates is not None:
            raise ValueError(
                f"{str(path)!r} holds means over all replicates: one of them is replayed of a sweep's cell file only"
            )
        return _replay_result(Path(path))
    cell = store.read_cell(path)
    chosen = list(range(cell.replicates) if replicates is None else replicates)
    for replicate in chosen:
        if not 0 <= replicate < cell.replicates:
            raise ValueError(f"replicate must be in 0..{cell.replicates - 1}, got {replicate}")
    for done, replicate in enumerate(chosen):
        stored = store.unpack(cell.packed, replicate, replicate + 1)
        rebuilt = run_replicate(cell.parameters, cell.seed, cell.number, replicate, cell.ratio)
        found = first_difference(stored, rebuilt)
        if found is not None:
            return done + 1, f"replicate {replicate}: {found}"
    return len(chosen), None


def first_difference(stored: Sample, rebuilt: Sample) -> str | None:
    """Return the first difference between two samples of one replicate in words, or None."""
    for field in fields(Sample):
        old, new = getattr(stored, field.name)[0], getattr(rebuilt, field.name)[0]
        if old.shape != new.shape:
            return f"{field.name} has shape {list(old.shape)} stored, {list(new.shape)} rebuilt"
        differ = np.argwhere(old != new)
        if len(differ):
            place = tuple(differ[0].tolist())
            where = place[0] if len(place) == 1 else place
            return (
                f"{field.name} differs at {_UNITS[field.name]} {where}: "
                f"stored {int(old[place])}, rebuilt {int(new[place])}"
            )
    return None


def _replay_result(path: Path) -> tuple[int, str | None]:
    """Run a stored `simulate` again and compare everything that it found."""
    from routegraph.sim.simulation import simulate

    document = read_document(path, RETOLD, "result of simulate")
    try:
        from_document(document)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no result of simulate: {error}") from None
    given = {**document["parameters"], "seed": document["seed"]}
    rows: list[dict[str, Any]] = document["results"]
    names = list(dict.fromkeys(name for row in rows for name in row))
    # Measures are no parameters: what was taken stands in the rows.
    taken = [name for name in names if name in measures]
    try:
        rebuilt = simulate(**{**given, "measures": taken}).to_dict()
    except TypeError as error:
        raise ValueError(f"{str(path)!r} is no result of simulate, or of another version: {error}") from None
    return int(rebuilt["parameters"]["replicates"]), first_difference_of_rows(rows, rebuilt["results"])


def first_difference_of_rows(stored: list[dict[str, Any]], rebuilt: list[dict[str, Any]]) -> str | None:
    """Return the first difference between the rows of two results of `simulate` in words, or None."""
    if len(stored) != len(rebuilt):
        return f"{len(stored)} ratios stored, {len(rebuilt)} rebuilt"
    for old, new in zip(stored, rebuilt, strict=True):
        where = f"at ratio {new['ratio']:g}"
        if old.get("ratio") != new["ratio"]:
            return f"ratio: stored {old.get('ratio')}, rebuilt {new['ratio']}"
        if strange := [name for name in (*old, *new) if (name in old) != (name in new)]:
            which = "stored" if strange[0] in old else "rebuilt"
            return f"{strange[0]} {where} is {which} only"
        for name in new:
            if name == "ratio":
                continue
            for part, value in new[name].items():
                was = old[name].get(part) if isinstance(old[name], dict) else old[name]
                if was != value and not (part == "theory" and _close(was, value)):
                    return f"{part} of {name} {where}: stored {was}, rebuilt {value}"
    return None


def _close(one: Any, other: Any) -> bool:
    """Return whether two numbers are the same but for the last digits, in which processors and libraries differ."""
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return numbers and math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
