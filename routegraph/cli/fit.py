"""The command `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from routegraph.cli.options import Json, Out, Plot, count, real
from routegraph.cli.terminal import check_outputs, draw, note, parse_settings, print_json


def fit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a sweep.")],
    observable: Annotated[str, typer.Option(metavar="NAME", help="What is read off; see `list`.")],
    method: Annotated[str, typer.Option(metavar="NAME", help="half, peak, binder or collapse.")] = "half",
    scale: Annotated[
        str | None, typer.Option(metavar="NAME", help="n, L, M or 'L/ln n'; by theory where not given.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only cells with this parameter; repeatable."),
    ] = None,
    low: Annotated[
        float | None, typer.Option("--from", parser=real, metavar="RATIO", help="Smallest ratio.")
    ] = None,
    high: Annotated[
        float | None, typer.Option("--to", parser=real, metavar="RATIO", help="Largest ratio.")
    ] = None,
    points: Annotated[int, count("Ratios between them.")] = 81,
    zeta_over_nu: Annotated[
        float | None, typer.Option(parser=real, metavar="X", help="Known exponent of a collapse.")
    ] = None,
    correction: Annotated[
        bool, typer.Option("--correction", help="Collapse with a correction to scaling.")
    ] = False,
    resamples: Annotated[int, count("Bootstrap resamples.")] = 400,
    seed: Annotated[int, count("Seed of the bootstrap.")] = 0,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave damaged cell files out.")
    ] = False,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
) -> None:
    """Fit a critical ratio to a sweep, with intervals and evidence."""
    check_outputs(plot, out)
    chosen = parse_settings(where or [])
    from routegraph.sim.sweep_fit import fit_sweep

    found, damaged = fit_sweep(
        folder,
        observable,
        method=method,
        scale=scale,
        where=chosen,
        low=low,
        high=high,
        points=points,
        zeta_over_nu=zeta_over_nu,
        correction=correction,
        resamples=resamples,
        seed=seed,
        skip_damaged=skip_damaged,
    )
    for sentence in damaged:
        note(f"skipped: {sentence}")
    if out is not None:
        found.save(out)
        note(f"wrote {out}")
    if plot is not None:
        draw(found.plot(), plot)
    if json_:
        print_json(found.to_dict())
    else:
        typer.echo(found.summary())
