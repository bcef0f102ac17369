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
from numpy.typing import NDArray

from routegraph import policies
from routegraph.choices import AXES
from routegraph.critical.points import crossing, half_point
from routegraph.sim.fields import Field, fit_field
from routegraph.sim.profiles import agreement_by_layer
from routegraph.survival import ger, n_kept
from routegraph.tables import interval
from routegraph.theory.ger import slot_correlation
from routegraph.trace import Trace
from routegraph.validate.compare.run import COMPARED_RATIOS
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.traces.extract import extract_to_file
from routegraph.validate.traces.read_off import ReadOff, read_off
from studies.pages import DOCS, markdown, put_between

PAGE = DOCS / "guide" / "simulate.md"
BEGIN, END = "<!-- table: written by studies/family_profiles.py -->", "<!-- end of table -->"
#: The model of each family, and the synthetic profile that is named after it.
MODELS = {"smollm2": "llama", "qwen2.5-coder-0.5b": "qwen"}
DOCUMENTS, TOKENS, REPLICATES = 48, 2000, 8
RATIOS = np.array(COMPARED_RATIOS)
FINE = 1 - np.geomspace(1, 1e-3, 300)
Curve = NDArray[np.float64]


def traces_of(model: str, folder: Path) -> list[Trace]:
    """Return the traces of a model, extracted where they are not there yet."""
    path = folder / f"profile-{model}.npz"
    if not path.is_file():
        extract_to_file(model, "bundled", path, limit=DOCUMENTS, dtype="bfloat16")
    return Trace.load(path)


def simulated(field: Field, n_heads: int, over: str, prompts: Sequence[ReadOff]) -> Curve:
    """Return the mean GER of evictable tokens of prompts whose scores are such a field, under `topk`.

    float64[n_ratios]. Protected rows are among those that are kept: of what may be evicted, more goes than the ratio.
    """
    curves = []
    for seed in range(REPLICATES):
        scores = field.draw(np.random.default_rng(seed), n_heads, TOKENS)
        curves.append(ger(policies.apply("topk", scores), FINE, np.arange(TOKENS), over))
    curve, found = np.mean(curves, axis=0), []
    for one in prompts:
        evictable = one.normal_scores.shape[1]
        left = np.array([n_kept(one.n_context, ratio) for ratio in RATIOS]) - (one.n_context - evictable)
        found.append(np.interp(1 - np.clip(left / evictable, 0, 1), [*FINE, 1.0], [*curve, 1.0]))
    return np.asarray(np.mean(found, axis=0))


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


def rows(model: str, read: Sequence[ReadOff], n_heads: int, name: str) -> list[list[str]]:
    """Return the table's rows of a model: what is read off, and each profile beside it."""
    fitted = fit_field(slot_correlation([one.normal_scores for one in read[::2]]), n_heads)
    held_out = {over: np.array([one.evictable[over] for one in read[1::2]]) for over in AXES}
    found = [
        [
            model,
            "read off",
            *_depths(None),
            *(interval(half_point(RATIOS, held_out[over]), 3) for over in AXES),
            "-",
        ]
    ]
    for told, field in fields(name, fitted).items():
        curves = {over: simulated(field, n_heads, over, read[1::2]) for over in AXES}
        gap = np.abs(curves["model"] - held_out["model"].mean(axis=0)).max()
        halves = [f"{crossing(RATIOS, curves[over][None])[0]:.3f}" for over in AXES]
        found.append(["", told, *_depths(field), *halves, f"{gap:.3f}"])
    return found


def _depths(field: Field | None) -> list[str]:
    """Return the agreement of the first, middle and last third of the layers."""
    if field is None:
        return ["", "", ""]
    return [f"{part.mean():.2f}" for part in np.array_split(field.in_layer, 3)]


def main(folder: Path) -> None:
    """Write the table."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for model, name in MODELS.items():
        traces = traces_of(model, folder)
        method = Method.of_scores(traces[0], "topk")
        read = [read_off(trace, Eviction.of(method, trace), RATIOS.tolist()) for trace in traces]
        lines += rows(model, read, traces[0].n_heads, name)
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
