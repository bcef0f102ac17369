"""The commands `export`, `replay` and `list`: what is in files, and what is registered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    replicate: Annotated[int | None, count("Which replicate of a simulation; the first by default.")] = None,
    limit: Annotated[int | None, count("Only the first N prompts of a trace or a measurement.")] = None,
) -> None:
    """Write a graph, scores or replies for other programs to read."""
    from routegraph.export import export as run_export

    rows = run_export(file, to, replicate, limit)
    note(f"wrote {to}: {rows} rows")


def registries() -> tuple[Registry, ...]:
    """Return every registry there is, in the order in which `list` shows them."""
    from routegraph.policies import policies
    from routegraph.sim.decoding.policies import decoding_policies
    from routegraph.sim.ensembles import ensembles
    from routegraph.sim.measures import measures
    from routegraph.sim.observables import observables
    from routegraph.sim.profiles import profiles
    from routegraph.validate.graders import graders
    from routegraph.validate.models.families import families
    from routegraph.validate.presses.decoding import REPLY_POLICIES
    from routegraph.validate.presses.scorers import SCORERS
    from routegraph.validate.prompts.formats import formats
    from routegraph.validate.tasks import tasks

    return (
        policies,
        decoding_policies,
        REPLY_POLICIES,
        ensembles,
        profiles,
        observables,
        measures,
        SCORERS,
        families,
        tasks,
        formats,
        graders,
    )


def list_(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD",
            help="Show only a kind (policy, task, grader, ...), or what has every WORD in its name or in what it does.",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Show what is registered: policies, tasks, graders and the rest.

    Each with what it does, its parameters, and where it comes from.
    """
    told = _found(_registered(), [one.lower() for one in words or ()])
    if json_:
        print_json(told)
        return
    from routegraph.tables import Grid

    grids = []
    for kind, entries in told.items():
        if kind == METHOD:
            from routegraph.validate.presses.methods import vocabulary

            built_in = {one.name for one in vocabulary() if one.built_in}
            rows = [[n, e["summary"], e["kvpress"] or ""] for n, e in entries.items() if n in built_in]
            grid = Grid([kind, "whose scores, which cut", "kvpress"], rows, right_from=3)
        else:
            rows = [
                [
                    name,
                    one["summary"],
                    ", ".join(f"{k}={v}" for k, v in one["parameters"].items()),
                    one["from"],
                ]
                for name, one in entries.items()
            ]
            grid = Grid([kind, "what it does", "parameters", "from"], rows, right_from=4)
        if rows:
            grids.append(grid)
    screen = console()
    for position, grid in enumerate(grids):
        if position:
            screen.print()
        screen.print(grid.to_rich())


METHOD = "method"


def _registered() -> dict[str, dict[str, dict[str, Any]]]:
    """Return everything that is registered, by kind and name; last what methods mean."""
    from routegraph.validate.presses.methods import vocabulary

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
    return {**told, METHOD: {one.name: one.to_dict() for one in vocabulary()}}


def _found(
    told: dict[str, dict[str, dict[str, Any]]], wanted: list[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the entries that have every word: a kind's own name, or letters of the name or the summary.

    Raises
    ------
    ValueError
        If nothing has.
    """
    kinds = {form: kind for kind in told for form in (kind, f"{kind}s", f"{kind[:-1]}ies")}
    asked = [kinds[one] for one in wanted if one in kinds]
    words = [one for one in wanted if one not in kinds]
    found = {}
    for kind in dict.fromkeys(asked) or told:
        some = {
            name: entry
            for name, entry in told[kind].items()
            if all(
                word in f"{name} {entry['summary']} {entry.get('kvpress') or ''}".lower() for word in words
            )
        }
        if some or not words:
            found[kind] = some
    if not any(found.values()):
        raise ValueError(f"nothing registered has {' '.join(wanted)!r}; kinds are: {', '.join(told)}")
    return found


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A cell file of a sweep, or a result of simulate.")
    ],
    replicate: Annotated[int | None, count("Which replicate of a cell file; all by default.")] = None,
    json_: Json = False,
) -> None:
    """Rebuild a result from its seeds, and say whether it is the same.

    Where it is not, the first difference is shown, and the exit status is 1.
    """
    from routegraph.sim.replay import replay as run_replay
    from routegraph.tables import many

    done, difference = run_replay(file, None if replicate is None else [replicate])
    if json_:
        print_json(
            {"file": file.name, "replicates": done, "identical": difference is None, "first": difference}
        )
    elif difference is None:
        typer.echo(f"identical: {many(done, 'replicate')} of {file.name}")
    if difference is not None:
        raise typer.Exit(fail(f"not identical: {difference}", 1))
