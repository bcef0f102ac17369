"""All runs below a folder, whatever wrote them."""

from __future__ import annotations

import os
from pathlib import Path

from routegraph.validate.audit.cells import read_cells
from routegraph.validate.audit.kvpress import read_kvpress
from routegraph.validate.audit.lm_eval import is_samples, read_lm_eval
from routegraph.validate.audit.runs import Finding, Run, printable

#: What can be audited, for messages.
KINDS = (
    "folders DATASET__DATADIR__MODEL__PRESS__RATIO with predictions.csv as kvpress's evaluation writes them, "
    "samples_*.jsonl of lm-eval, or folders written by routegraph measure"
)


def read_runs(folder: str | os.PathLike[str]) -> tuple[list[Run], list[Finding]]:
    """Return all runs below a folder, and what was found that belongs to none of them.

    Parameters
    ----------
    folder : path
        One result folder, or one that holds several at any depth; links to folders are not followed.

    Raises
    ------
    ValueError
        If there is no such folder, it holds no run, a file is damaged, or two runs cannot be told apart.
    """
    root = Path(folder)
    if not root.is_dir():
        kind = "it is a file" if root.exists() else "there is no such folder"
        raise ValueError(f"cannot audit {str(root)!r}: {kind}; give a folder of results: {KINDS}")
    runs: list[Run] = []
    findings: list[Finding] = []
    for here, folders, files in os.walk(root):
        folders.sort()
        place = Path(here)
        inside = place.relative_to(root)
        name = printable(inside.as_posix() if inside.parts else place.resolve().name)
        samples = [file for file in files if is_samples(file)]
        if "run.json" in files and "cells" in folders:
            folders.clear()
            runs += read_cells(place, name)
        elif "predictions.csv" in files:
            if inside.parts and place.name.isdecimal() and (place.parent / "predictions.csv").is_file():
                text = (
                    f"{name} repeats the settings of the folder that it lies in, and is left out; audit it by "
                    "itself."
                )
                findings.append(Finding("repeat", text, (name,)))
            else:
                runs.append(read_kvpress(place, name))
        elif samples:
            runs += read_lm_eval(place, samples, (root.resolve().name, *inside.parts), name)
        elif {"metrics.json", "config.yaml"} <= set(files):
            text = "There are metrics and no predictions.csv, so that nothing can be said item by item"
            findings.append(Finding("unchecked", text, (name,)))
    if not runs:
        raise ValueError(f"{str(root)!r} holds no run that can be audited; give {KINDS}")
    _check_apart(runs)
    return runs, findings


def _check_apart(runs: list[Run]) -> None:
    """Refuse two runs of the same data set, model, press and ratio: nobody could say which one is meant."""
    seen: dict[object, Run] = {}
    for run in runs:
        place = (run.curve, run.ratio)
        if place in seen:
            raise ValueError(
                f"{seen[place].name!r} and {run.name!r} are both of {run.scope.words}, {run.label} at ratio "
                f"{run.ratio:g}, and cannot be told apart; audit the folders that hold them one at a time"
            )
        seen[place] = run
