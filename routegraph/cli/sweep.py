"""The command `sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from routegraph.cli.options import Json, count, counts, names, real, shares
from routegraph.cli.terminal import compiling, console, note, parse_settings, print_json, progress


def sweep(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the cell files; resumes what is there.")
    ],
    n_tokens: Annotated[list[int] | None, counts("Cache rows.")] = None,
    n_layers: Annotated[list[int] | None, counts("Layers.")] = None,
    n_heads: Annotated[list[int] | None, counts("KV heads a layer.")] = None,
    degree: Annotated[list[int] | None, counts("Reads of each (layer, KV head, token).")] = None,
    ensemble: Annotated[list[str] | None, names("Where the reads fall.")] = None,
    policy: Annotated[list[str] | None, names("Which rows are evicted first.")] = None,
    score_correlation: Annotated[list[float] | None, shares("Correlation of a token's scores.")] = None,
    prune: Annotated[list[str] | None, names("columns or decode.")] = None,
    residual: Annotated[bool, typer.Option(help="Let a token carry itself down a layer.")] = True,
    n_answers: Annotated[list[int] | None, counts("Answer tokens drawn in each replicate.")] = None,
    group_size: Annotated[list[int] | None, counts("Query heads per KV head.")] = None,
    profile: Annotated[list[str] | None, names("Agreement of heads by depth.")] = None,
    correlation_floor: Annotated[list[float] | None, shares("Share common to all layers.")] = None,
    correlation_length: Annotated[list[float] | None, shares("Layers over which the rest decays.")] = None,
    read_agreement: Annotated[list[float] | None, shares("How far agreeing heads read alike.")] = None,
    attention_tie: Annotated[list[float] | None, shares("Correlation of scores with reads.")] = None,
    answer_shift: Annotated[list[float] | None, shares("Shift of the answer tokens' scores.")] = None,
    source: Annotated[list[str] | None, names("Where routes start: query, or row.")] = None,
    directed: Annotated[
        bool, typer.Option("--directed/--undirected", help="Routes go from query to key only.")
    ] = True,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Parameter of ensemble, policy or profile."),
    ] = None,
    together: Annotated[
        str, typer.Option(metavar="NAME,NAME", help="Options whose values are walked in step, not crossed.")
    ] = "",
    ratio: Annotated[
        list[float] | None,
        typer.Option(parser=real, metavar="RATIO", help="For policies that are not nested only; repeatable."),
    ] = None,
    replicates: Annotated[int, count("Replicates a cell.")] = 32,
    seed: Annotated[int, count("Seed of all random numbers.")] = 0,
    workers: Annotated[int, count("Threads, or processes.")] = 1,
    processes: Annotated[bool, typer.Option("--processes", help="Processes instead of threads.")] = False,
    dask: Annotated[
        str | None, typer.Option(metavar="local|ADDRESS", help="Run on dask; ADDRESS is tcp://HOST:PORT.")
    ] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Compute damaged cell files again.")
    ] = False,
    json_: Json = False,
) -> None:
    """Simulate a grid of cells; options with several values are crossed. A killed sweep resumes."""
    given: dict[str, Any] = {
        "n_tokens": n_tokens,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "degree": degree,
        "ensemble": ensemble,
        "policy": policy,
        "score_correlation": score_correlation,
        "prune": prune,
        "n_answers": n_answers,
        "group_size": group_size,
        "profile": profile,
        "correlation_floor": correlation_floor,
        "correlation_length": correlation_length,
        "read_agreement": read_agreement,
        "attention_tie": attention_tie,
        "answer_shift": answer_shift,
        "source": source,
    }
    settings = parse_settings(setting or [])
    from routegraph.sim.sweep import sweep as run_sweep

    with progress("sweep", compiling()) as advance:
        result = run_sweep(
            out,
            replicates=replicates,
            seed=seed,
            ratio=ratio or None,
            settings=settings,
            together=[name.strip().replace("-", "_") for name in together.split(",") if name.strip()],
            workers=workers,
            processes=processes,
            dask=dask,
            skip_damaged=skip_damaged,
            progress=advance,
            residual=residual,
            directed=directed,
            **{name: values for name, values in given.items() if values},
        )
    for sentence in result.damaged:
        note(f"computed again: {sentence}")
    if json_:
        print_json(result.to_dict())
        return
    from routegraph.tables import Grid

    varied = result.varied()
    rows = [
        [group[0].name, *(str(values[i]) for values in varied.values()), str(group[0].replicates)]
        for i, group in enumerate(result.groups)
    ]
    title = f"{len(result.cells)} cells in {out}, {replicates} replicates each, seed {seed}"
    console().print(Grid(["cell", *varied, "replicates"], rows, title=title).to_rich())
