"""The command `sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from routegraph.cli.options import Json, count, real, takes
from routegraph.cli.pace import progress
from routegraph.cli.terminal import compiling, console, note, parse_settings, print_json
from routegraph.sim.parameters import Parameters


@takes(Parameters, many=True)
def sweep(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the cell files; resumes what is there.")
    ],
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
    **axes: Any,
) -> None:
    """Simulate a grid of settings; a killed sweep resumes.

    Options with several values are crossed.
    """
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
            **{name: values for name, values in axes.items() if values not in (None, [])},
        )
    for sentence in result.damaged:
        note(f"computed again: {sentence}")
    if json_:
        print_json(result.to_dict())
        return
    result.page().show(console())
