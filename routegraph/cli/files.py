"""The commands `export`, `replay` and `list`: what is in files, and what is registered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from routegraph.cli.options import Json, count
from routegraph.cli.terminal import console, fail, note, print_json

if TYPE_CHECKING:
    from routegraph.registry import Registry


def export(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A result of simulate --out, a trace, or a folder of measure."),
    ],
    to: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Ends in .graphml, .json or .csv; of replies in .csv or .jsonl."),
    ],
    replicate: Annotated[int, count("Which replicate of a simulation.")] = 0,
    limit: Annotated[int | None, count("Only the first N prompts of a trace or a measurement.")] = None,
) -> None:
    """Write a simulated graph, a trace's scores or a measurement's replies for other programs."""
    from routegraph.export import export as run_export

    rows = run_export(file, to, replicate, limit)
    note(f"wrote {to}: {rows} rows")


def registries() -> tuple[Registry, ...]:
    """Return every registry there is, in the order in which `list` shows them."""
    from routegraph.policies import policies
    from routegraph.sim.ensembles import ensembles
    from routegraph.sim.measures import measures
    from routegraph.sim.observables import observables
    from routegraph.sim.profiles import profiles
    from routegraph.validate.graders import graders
    from routegraph.validate.models.families import families
    from routegraph.validate.presses.scorers import SCORERS
    from routegraph.validate.prompts.formats import formats
    from routegraph.validate.tasks import tasks

    return policies, ensembles, profiles, observables, measures, SCORERS, families, tasks, formats, graders


def list_(json_: Json = False) -> None:
    """Show what is registered, and where it comes from: policies, ensembles, scorers, tasks, formats, graders ...."""
    from routegraph.validate.presses.methods import vocabulary

    methods = vocabulary()
    if json_:
        told = {
            registry.kind: {
                name: {
                    "summary": registry.summary(name),
                    "parameters": registry.parameters(name),
                    "from": registry.origin(name),
                }
                for name in registry
            }
            for registry in registries()
        }
        print_json({**told, "method": {one.name: one.to_dict() for one in methods}})
        return
    from routegraph.tables import Grid

    for registry in registries():
        rows = []
        for name in registry:
            parameters = ", ".join(f"{k}={v}" for k, v in registry.parameters(name).items())
            rows.append([name, registry.summary(name), parameters, registry.origin(name)])
        columns = [registry.kind, "what it does", "parameters", "from"]
        console().print(Grid(columns, rows, right_from=4).to_rich())
        console().print()
    rows = [[one.name, one.words, one.press] for one in methods if one.built_in]
    console().print(Grid(["method", "whose scores, which cut", "kvpress"], rows, right_from=3).to_rich())


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A cell file of a sweep, or a result of simulate.")
    ],
    replicate: Annotated[int | None, count("Which replicate; all by default.")] = None,
    json_: Json = False,
) -> None:
    """Rebuild what is in a file from its seeds: identical, or the first difference (exit status 1)."""
    from routegraph.sim.replay import replay as run_replay

    done, difference = run_replay(file, None if replicate is None else [replicate])
    if json_:
        print_json(
            {"file": file.name, "replicates": done, "identical": difference is None, "first": difference}
        )
    elif difference is None:
        typer.echo(f"identical: {done} replicate(s) of {file.name}")
    if difference is not None:
        raise typer.Exit(fail(f"not identical: {difference}", 1))
