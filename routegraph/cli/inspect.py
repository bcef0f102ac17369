"""The command `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from routegraph.cli.options import Json, Plot, method_help, share
from routegraph.cli.terminal import check_outputs, console, draw, print_json


def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A trace, a JSON result, or the folder of a sweep.")
    ],
    prompt: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Prompt whose survivors are mapped; the first by default."),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=method_help("Policy of the map; topk by the first scores of the trace by default", False),
        ),
    ] = None,
    ratio: Annotated[float, share("Compression ratio of the map.")] = 0.9,
    json_: Json = False,
    plot: Plot = None,
) -> None:
    """Show what is in a file; of a trace: attention, popularity, agreement of slots and heads, survivors."""
    check_outputs(plot, None)
    from routegraph.validate.traces import tables

    told = tables.of_other_file(file)
    if told is not None:
        if plot is not None:
            raise ValueError(f"only traces are drawn, and {str(file)!r} is none")
        if json_:
            print_json(told)
        else:
            tables.other_file(console(), told)
        return
    from routegraph.trace import Trace
    from routegraph.validate.traces.inspect import inspect_traces

    found = inspect_traces(Trace.load(file), prompt, policy, ratio)
    provenance = Trace.provenance(file)
    if plot is not None:
        from routegraph.validate.traces.inspect import plot_inspection

        draw(plot_inspection(found), plot)
    if json_:
        print_json({"provenance": provenance, **found.to_dict()})
    else:
        tables.inspection(console(), found, provenance)
