"""`replay`: rebuild what is in a file, and say identical or where the first difference is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from routegraph.sim import store
from routegraph.sim.observables import Sample
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
        Which of a cell file; all by default. A result of `simulate` holds means only: all are run again.

    Returns
    -------
    (int, str or None)
        How many were rebuilt, and the first difference (None: identical).

    Raises
    ------
    ValueError
        If the file is damaged or a replicate is not in it.
    """
    if Path(path).suffix == ".json":
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
    """Run a stored `simulate` again and compare means and standard errors."""
    from routegraph.sim.simulation import simulate

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        given = {**document["parameters"], "seed": document["seed"]}
        rows: list[dict[str, Any]] = document["results"]
    except (OSError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"{str(path)!r} is no result of simulate") from None
    try:
        rebuilt = simulate(**given).to_dict()
    except TypeError as error:
        raise ValueError(f"{str(path)!r} is no result of simulate, or of another version: {error}") from None
    for old, new in zip(rows, rebuilt["results"], strict=True):
        for name in new:
            if name == "ratio" or name not in old:
                continue
            for part in ("mean", "stderr"):
                if old[name][part] != new[name][part]:
                    what = f"{part} of {name} at ratio {new['ratio']:g}"
                    return rebuilt["parameters"]["replicates"], (
                        f"{what}: stored {old[name][part]}, rebuilt {new[name][part]}"
                    )
    return int(rebuilt["parameters"]["replicates"]), None
