"""The command `simulate`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from routegraph.cli.options import Json, Keep, Out, Plot, Seed, count, ratios_of, real, takes
from routegraph.cli.pace import progress
from routegraph.cli.terminal import (
    check_outputs,
    compiling,
    console,
    draw,
    hand_over,
    parse_settings,
)
from routegraph.sim.parameters import Parameters


@takes(Parameters)
def simulate(
    ratio: Annotated[
        list[float] | None,
        typer.Option(
            parser=real, metavar="RATIO", help="Compression ratio in [0, 1), .9 by default; repeatable."
        ),
    ] = None,
    keep: Keep = None,
    replicates: Annotated[int, count("Independent graphs.")] = 32,
    seed: Seed = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Parameter of the ensemble, policy or profile; repeatable."
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Further measure on the stored graph; repeatable."),
    ] = None,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
    **options: Any,
) -> None:
    """Simulate token-attention graphs under eviction, beside theory."""
    check_outputs(plot, out)
    settings = parse_settings(setting or [])
    ratios = ratios_of(ratio, keep, options["n_tokens"]) or [0.9]
    from routegraph.sim.simulation import simulate as run_simulation

    with progress("replicates", compiling()) as advance:
        result = run_simulation(
            ratio=ratios,
            replicates=replicates,
            seed=seed,
            settings=settings,
            measures=measure or (),
            progress=advance,
            **options,
        )
    if plot is not None:
        draw(result.plot(), plot)
    if hand_over(result.to_dict(), json_, out):
        result.page().show(console())
