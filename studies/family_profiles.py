"""How much heads of a real LLaMA and a real Qwen agree by depth, and what that says of GER: docs/guide/simulate.md.

``python -m studies.family_profiles FOLDER`` extracts the scores of 48 bundled documents of each model into FOLDER, if
they are not there, and writes the table: about five minutes. Every other document is fitted, the others are judged:
average tokens that `topk` may evict, whose GER is read off, and simulated with the profile that carries the family's
name, with a straight line and with all layers' agreement as they are in the fitted half, and with heads that do not
agree at all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from routegraph.choices import AXES
from routegraph.critical.points import crossing, half_point
from routegraph.sim.fields import Field, fit_field
from routegraph.sim.profiles import agreement_by_layer
from routegraph.tables import interval
from routegraph.theory.ger import slot_correlation
from routegraph.trace import Trace
from routegraph.validate.compare.run import COMPARED_RATIOS
from routegraph.validate.compare.simulated import ScoreModel, simulate_ger
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.traces.extract import extract_to_file
from routegraph.validate.traces.read_off import read_off
from studies.pages import DOCS, markdown, put_between

PAGE = DOCS / "guide" / "simulate.md"
BEGIN, END = "<!-- table: written by studies/family_profiles.py -->", "<!-- end of table -->"
#: The model of each family, and the synthetic profile that is named after it.
MODELS = {"smollm2": "llama", "qwen2.5-coder-0.5b": "qwen"}
DOCUMENTS = 48
RATIOS = np.array(COMPARED_RATIOS)


def traces_of(model: str, folder: Path) -> list[Trace]:
    """Return the traces of a model, extracted where they are not there yet."""
    path = folder / f"profile-{model}.npz"
    if not path.is_file():
        extract_to_file(model, "bundled", path, limit=DOCUMENTS, dtype="bfloat16")
    return Trace.load(path)


def fields(name: str, fitted: Field) -> dict[str, Field]:
    """Return what is compared; floor and length of all but the last are those of the fitted half."""
    depth = np.linspace(0, 1, len(fitted.in_layer))
    slope, start = np.polyfit(depth, fitted.in_layer, 1)
    line = np.clip(start + slope * depth, 0, 1)
    synthetic = agreement_by_layer(name, len(depth))
    return {
        f"`--profile {name}` (synthetic)": Field(synthetic, fitted.floor, fitted.length),
        "a straight line, fitted": Field(line, fitted.floor, fitted.length),
        "every layer, fitted (`--profile trace`)": fitted,
        "heads that do not agree": Field(np.zeros(len(depth))),
    }


def rows(model: str, traces: Sequence[Trace], name: str) -> list[list[str]]:
    """Return the table's rows of a model: what is read off, and each profile beside it."""
    method, n_heads = Method.of_scores(traces[0], "topk"), traces[0].n_heads
    evictions = [Eviction.of(method, trace) for trace in traces]
    read = [read_off(*pair, RATIOS.tolist()) for pair in zip(traces, evictions, strict=True)]
    fitted = fit_field(slot_correlation([one.normal_scores for one in read[::2]]), n_heads)
    held_out = {over: np.array([one.evictable[over] for one in read[1::2]]) for over in AXES}
    halves = [interval(half_point(RATIOS, held_out[over]), 3) for over in AXES]
    found = [[model, "read off", "", "", "", *halves, "-"]]
    for told, field in fields(name, fitted).items():
        alike = ScoreModel(field, None, np.zeros(len(field.in_layer) * n_heads), n_heads)
        made = simulate_ger(alike, traces[1::2], evictions[1::2], RATIOS.tolist(), seed=0)["evictable"]
        gap = np.abs(made["model"].mean - held_out["model"].mean(axis=0)).max()
        halves = [f"{crossing(RATIOS, made[over].mean[None])[0]:.3f}" for over in AXES]
        thirds = [f"{part.mean():.2f}" for part in np.array_split(field.in_layer, 3)]
        found.append(["", told, *thirds, *halves, f"{gap:.3f}"])
    return found


def main(folder: Path) -> None:
    """Write the table."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for model, name in MODELS.items():
        lines += rows(model, traces_of(model, folder), name)
    header = [
        "model",
        "heads",
        "agreement: first third",
        "middle",
        "last",
        "half gone: all slots",
        "a layer",
        "largest gap",
    ]
    put_between(PAGE, BEGIN, markdown(header, lines), END)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
