"""The command `claims`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from routegraph.cli.options import Json, Out, Plot, Seed, SkipDamaged
from routegraph.cli.terminal import check_outputs, console, draw, hand_over


def claims(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders written by measure.")],
    trace: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Traces, for C5 and C6; repeatable.")
    ] = None,
    probes: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Results of linear probes, for C7; repeatable.")
    ] = None,
    skip_damaged: SkipDamaged = False,
    seed: Seed = 0,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
) -> None:
    """Judge the claims C1 to C11 of the paper on what was measured."""
    check_outputs(plot, out)
    from routegraph.validate.claims.judge import claims_of_files, to_dict

    judged, measured = claims_of_files(folders, trace or (), probes or (), seed, skip_damaged)
    if plot is not None:
        from routegraph.validate.claims.figures import plot_claims

        draw(plot_claims(measured), plot)
    if hand_over(to_dict(judged, measured, seed), json_, out):
        from routegraph.validate.claims import tables

        tables.claims(console(), judged, measured)
