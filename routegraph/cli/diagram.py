"""The command `diagram`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from routegraph.cli.options import Json, Out, Plot, Seed
from routegraph.cli.terminal import check_outputs, console, draw, hand_over


def diagram(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="CELLS...", help="Folders written by measure, one without bits, the others with."
        ),
    ],
    policy: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which policy, where the folders have several.")
    ] = None,
    bytes_: Annotated[
        list[float] | None,
        typer.Option(
            "--bytes",
            metavar="SHARE",
            help="Share of the whole cache's bytes for which the best split is named; repeatable; .5, .25 and .125 by "
            "default.",
        ),
    ] = None,
    noise: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Written by routegraph noise --out: simulate, too."),
    ] = None,
    seed: Seed = 0,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
) -> None:
    """Draw ratio against bits at equal bytes; name the best split."""
    check_outputs(plot, out)
    from routegraph.validate.diagram.best import BUDGETS
    from routegraph.validate.diagram.result import diagram as drawn
    from routegraph.validate.noise.result import read_noise

    found = drawn(
        folders,
        policy=policy,
        budgets=bytes_ or BUDGETS,
        noise=None if noise is None else read_noise(noise),
        seed=seed,
    )
    if plot is not None:
        draw(found.plot(), plot)
    if hand_over(found.to_dict(), json_, out):
        found.page().show(console())
