"""The command `decode`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from routegraph.cli.options import Json, Out, Plot, Seed, count, takes, whole
from routegraph.cli.pace import progress
from routegraph.cli.terminal import check_outputs, console, draw, hand_over, note, parse_settings
from routegraph.sim.decoding.parameters import Decoding

#: Policies that come with routegraph, as the option lists them.
POLICIES = "random, streaming, h2o, tova, treekv, scope; or topk, snapkv, asked at every cut"


@takes(Decoding)
def decode(
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help=f"Which rows go: {POLICIES}; repeatable; random and streaming by default."
        ),
    ] = None,
    at: Annotated[
        list[int] | None,
        typer.Option(
            parser=whole,
            metavar="STEP",
            help="Step to report; repeatable; an eighth, a quarter, half and all by default.",
        ),
    ] = None,
    replicates: Annotated[int, count("Independent runs.")] = 8,
    seed: Seed = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Parameter of a policy; repeatable."),
    ] = None,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
    **options: Any,
) -> None:
    """Simulate caches that are cut while an answer is written."""
    check_outputs(plot, out)
    settings = parse_settings(setting or [])
    from routegraph.sim.decoding.simulate import simulate_decoding

    with progress("replicates") as advance:
        result = simulate_decoding(
            policy or ["random", "streaming"],
            at=at or (),
            replicates=replicates,
            seed=seed,
            settings=settings,
            progress=advance,
            **options,
        )
    if plot is not None:
        draw(result.plot(), plot)
        note(result.caption())
    if hand_over(result.to_dict(), json_, out):
        result.page().show(console())
