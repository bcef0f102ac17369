"""What is in a file, in words and tables: traces, JSON results, sweeps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from routegraph.schema import anything, maybe, read_document, record, result_rows, table_of, text, whole
from routegraph.survival import n_kept
from routegraph.tables import Grid, all_of, compact, many, show, spanned
from routegraph.validate.traces.inspect import SLOTS_AT, Inspection
from routegraph.validate.traces.structure import Means

#: Shades of the survivors map, from no head alive to all of them.
_SHADES = " .:+#@"
#: Columns of the map.
_WIDTH = 64


#: What is read of any result.
TOLD = record(
    {"version": text},
    {"seed": maybe(whole(0, math.inf)), "parameters": maybe(table_of(anything)), "results": result_rows},
)


def of_other_file(path: Path) -> dict[str, Any] | None:
    """Return what a JSON result or a sweep's folder says about itself; None where it is neither.

    Raises
    ------
    ValueError
        If a folder is no sweep, or a .json file holds no result of this package.
    """
    if path.is_dir():
        from routegraph.sim.sweep_result import load_sweep

        return {"kind": "sweep", **load_sweep(path).to_dict()}
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    document = read_document(path, TOLD, "result of routegraph")
    told = {"kind": "result", **{name: document.get(name) for name in ("version", "seed", "parameters")}}
    rows = document.get("results")
    return told | {"results": len(rows) if isinstance(rows, list) else None}


def other_file(console: Console, told: dict[str, Any]) -> None:
    """Print what a JSON result or a sweep says about itself."""
    parameters = told.get("parameters") or {}
    rows = [[name, str(value)] for name, value in told.items() if name not in ("parameters", "cells")]
    rows += [[name, str(value)] for name, value in parameters.items()]
    rows += [[cell["file"], f"{cell['replicates']} replicates"] for cell in told.get("cells", ())]
    console.print(Grid(["what", "value"], rows, right_from=2).to_rich())


def inspection(console: Console, found: Inspection, provenance: dict[str, Any]) -> None:
    """Print what is in a trace."""
    show(console, inspection_header(found, provenance))
    for grid in inspection_grids(found):
        console.print()
        console.print(grid.to_rich())
    prompt, policy, ratio = found.shown
    console.print()
    kept = n_kept(found.survivors.shape[1], ratio)
    title = f"Survivors of {prompt}, {policy} at ratio {ratio:.4g}, keep {kept}: layers down, tokens across"
    show(console, [title], "bold")
    show(console, [f"{policy}: {found.method}.", *survivors_map(found)])
    show(
        console,
        [f"'{_SHADES[0]}' no KV head keeps the token, '{_SHADES[-1]}' {all_of(found.sizes[1], 'KV head')}."],
        "dim",
    )
    console.print()
    show(console, [INSPECTION_FOOTNOTE], style="dim")
    if found.by_distance is None:
        show(console, ["Attention by distance and the Lorenz curve need traces made by extract --graphs."])


INSPECTION_FOOTNOTE = (
    "0.488(12) is 0.488 with a standard error of 0.012 over prompts. Attention: the edges a trace keeps, the heaviest "
    "keys of every query row and all weights of .01 and more. Gini: 0 all rows of a slot are read alike, 1 one row "
    "takes all. Slot correlation: of normal scores of the order of eviction, evictable tokens. Effective slots: "
    "ln GER / ln p over all layers and KV heads. Consensus: distinct top keys / query heads, low when heads agree; "
    "agreement: largest share of heads with one top key; the sink is the first 4 positions; slope over relative "
    "depth, from first layer to last."
)


def inspection_header(found: Inspection, provenance: dict[str, Any]) -> list[str]:
    """Return sentences that say what the trace is of, and what made it."""
    lengths = [n for _, n, _ in found.prompts]
    answers = sum(a for _, _, a in found.prompts)
    layers, heads, query_heads = found.sizes
    lines = [
        f"Model {found.model}: {many(layers, 'layer')} x {many(heads, 'KV head')} "
        f"({many(query_heads, 'query head')} a layer).",
        f"{many(len(lengths), 'prompt')} of {spanned(lengths)} tokens, {many(answers, 'answer token')} in all.",
    ]
    for name, parameters in found.scorers.items():
        listed = ", ".join(f"{key} {value}" for key, value in parameters.items())
        lines.append(f"Scores {name}: {listed or 'no parameters'}.")
    made = [f"{name} {provenance[name]}" for name in ("command", "version") if name in provenance]
    versions = provenance.get("versions", {})
    made += [f"{name} {version}" for name, version in versions.items() if name != "routegraph"]
    return [*lines, f"Made by {', '.join(made)}."]


def inspection_grids(found: Inspection) -> list[Grid]:
    """Return the tables of a trace: attention, slots, heads."""
    return [*_attention_grids(found), *_slot_grids(found), *_head_grids(found)]


def survivors_map(found: Inspection) -> list[str]:
    """Return one line a layer: shares of KV heads alive, tokens pooled into at most 64 columns."""
    n = found.survivors.shape[1]
    edges = np.linspace(0, n, min(n, _WIDTH) + 1).astype(int)
    pooled = np.add.reduceat(found.survivors, edges[:-1], axis=1) / np.diff(edges) / found.sizes[1]
    shade = np.ceil(pooled * (len(_SHADES) - 1) - 1e-9).astype(int)
    return [
        f"{layer:3d} |{''.join(_SHADES[k] for k in row)}|"
        for layer, row in enumerate(shade.tolist(), start=1)
    ]


def _attention_grids(found: Inspection) -> list[Grid]:
    if found.by_distance is None or found.sink_share is None or found.gini is None or found.lorenz is None:
        return []
    rows = [["sink, share of all", _cell(found.sink_share, 0)]]
    for b in range(len(found.by_distance.mean)):
        low, high = 2**b - 1, 2 ** (b + 1) - 2
        rows.append([f"{low} to {high} back" if high > low else "itself", _cell(found.by_distance, b)])
    where = [10, 20, 50]
    shares = [
        [name, _cell(found.gini[name], 0), *(_cell(curve, at) for at in where)]
        for name, curve in found.lorenz.items()
    ]
    columns = ["attention on a slot's rows", "Gini", *(f"top {at} %" for at in where)]
    return [
        Grid(["attention by distance", "share of the rest"], rows),
        Grid(columns, shares),
    ]


def _slot_grids(found: Inspection) -> list[Grid]:
    layers = len(found.correlation.mean)
    apart = [d for d in (0, 1, 2, 4, 8, 16, 32, 64) if d < layers]
    ratios = [(i, ratio) for i, ratio in enumerate(SLOTS_AT) if ratio in (0.8, 0.9, 0.95)]
    columns = ["layers apart", *(str(d) if d else "0 (heads)" for d in apart)]
    slots = found.sizes[0] * found.sizes[1]
    return [
        Grid(columns, [["slot correlation", *(_cell(found.correlation, d) for d in apart)]]),
        Grid(
            ["ratio", *(f"{ratio:g}" for _, ratio in ratios)],
            [[f"effective of {slots} slots", *(_cell(found.effective_slots, i, 1) for i, _ in ratios)]],
        ),
    ]


def _head_grids(found: Inspection) -> list[Grid]:
    if found.by_layer is None or found.slopes is None:
        return []
    last = found.sizes[0] - 1
    at = sorted({0, last // 3, 2 * last // 3, last})
    rows = [
        [name, *(_cell(curve, i) for i in at), _cell(found.slopes[name], 0)]
        for name, curve in found.by_layer.items()
    ]
    return [Grid(["by layer", *(f"layer {i + 1}" for i in at), "slope"], rows)]


def _cell(found: Means, i: int, digits: int = 3) -> str:
    """Return one value with its standard error."""
    mean, error = float(found.mean[i]), float(found.stderr[i])
    if math.isnan(mean):
        return "-"
    if digits == 3 and mean != 0:
        return compact(mean, error, 0)
    return f"{mean:.{digits}f}" + ("" if math.isnan(error) else f" ± {error:.{digits}f}")
