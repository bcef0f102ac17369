"""The command `inspect`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from routegraph.cli.options import Json, Plot, SkipDamaged, count, method_help, share
from routegraph.cli.terminal import check_outputs, console, draw, note, print_json

#: Prompts, and replies, that a terminal is shown unless more are asked for.
SHOWN = 25


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A trace, a JSON result, or the folder of a measurement or a sweep."
        ),
    ],
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="One prompt: whose replies are shown; of a trace: whose survivors are mapped, the first by default.",
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=method_help(
                "Only the replies under this policy; of a trace: whose survivors are mapped, topk of its "
                "first scores by default",
                False,
            ),
        ),
    ] = None,
    ratio: Annotated[
        float | None,
        share("Only the replies at this ratio; of a trace: the ratio of the map, .9 by default."),
    ] = None,
    keep: Annotated[int | None, count("Rows that a slot keeps, in place of --ratio.")] = None,
    replies: Annotated[
        bool,
        typer.Option("--replies", help="Of a measurement: show every reply, in place of one line a prompt."),
    ] = False,
    limit: Annotated[
        int | None, count(f"Show the first N prompts, or replies; on a terminal {SHOWN} by default.")
    ] = None,
    skip_damaged: SkipDamaged = False,
    json_: Json = False,
    plot: Plot = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the replies into this file, .csv or .jsonl.")
    ] = None,
) -> None:
    """Show what is in a trace, a measurement, a sweep or a result.

    Of a measurement: every prompt and reply. Of a trace: attention, agreement, what survives.
    """
    check_outputs(plot, None)
    if ratio is not None and keep is not None:
        raise ValueError("give either --ratio or --keep, not both")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    if not file.exists():
        raise ValueError(f"no file or folder {str(file)!r}")
    from routegraph.validate.measure.cells import is_measurement

    if is_measurement(file):
        if plot is not None:
            raise ValueError(f"only traces are drawn, and {str(file)!r} is none; measure --plot draws")
        some = {"policy": policy, "ratio": ratio, "keep": keep, "prompt": prompt}
        _measurement(file, some, replies or out is not None, limit, json_, out, skip_damaged)
        return
    if replies or limit is not None or out is not None:
        raise ValueError(
            f"--replies, --limit and --out are for a folder of measure, and {str(file)!r} is none"
        )
    _other(file, prompt, policy, ratio, keep, json_, plot)


def _measurement(
    folder: Path,
    some: dict[str, Any],
    replies: bool,
    limit: int | None,
    json_: bool,
    out: Path | None,
    skip_damaged: bool,
) -> None:
    """Show the prompts or replies of a folder of measure, or write the replies."""
    from routegraph._version import __version__
    from routegraph.tables import Page, words
    from routegraph.validate.measure import samples
    from routegraph.validate.measure.reading import reading
    from routegraph.validate.measure.result import Measured

    if out is not None:
        samples.check_samples_path(out)
    found = Measured.load(folder, skip_damaged)
    if replies or some["ratio"] is not None or some["keep"] is not None:
        rows: list[Any] = samples.samples(found, **some)
    else:
        rows = samples.told(found, policy=some["policy"], prompt=some["prompt"])
    shown = rows[:limit]
    if out is not None:
        note(f"wrote {out}: {samples.write_samples(out, shown)} replies")
    elif json_:
        kind = "replies" if isinstance(rows[0], samples.Sample) else "prompts"
        head = {"version": __version__, "kind": "measurement", "parameters": dict(found.settings)}
        print_json({**head, "answer": " ".join(reading(found)), kind: [asdict(row) for row in shown]})
    else:
        shown = rows[: limit or SHOWN]
        grid = (
            samples.samples_grid(shown) if isinstance(rows[0], samples.Sample) else samples.told_grid(shown)
        )
        Page((words(*reading(found)), grid)).show(console())
        if len(rows) > len(shown):
            note(f"and {len(rows) - len(shown)} more; --limit {len(rows)} shows all")


def _other(
    file: Path,
    prompt: str | None,
    policy: str | None,
    ratio: float | None,
    keep: int | None,
    json_: bool,
    plot: Path | None,
) -> None:
    """Show what is in a trace, a JSON result or the folder of a sweep."""
    from routegraph.validate.traces import tables

    told = tables.of_other_file(file)
    if told is not None:
        if plot is not None:
            raise ValueError(f"only traces are drawn, and {str(file)!r} is none")
        given = {"prompt": prompt, "policy": policy, "ratio": ratio, "keep": keep}
        if meant := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"--{meant[0]} is for a trace or a folder of measure, and {str(file)!r} is none")
        if json_:
            print_json(told)
        else:
            tables.other_file(console(), told)
        return
    from routegraph.trace import Trace
    from routegraph.validate.traces.inspect import inspect_traces

    found = inspect_traces(Trace.load(file), prompt, policy, 0.9 if ratio is None else ratio, keep)
    provenance = Trace.provenance(file)
    if plot is not None:
        from routegraph.validate.traces.inspect import plot_inspection

        draw(plot_inspection(found), plot)
    if json_:
        print_json({"provenance": provenance, **found.to_dict()})
    else:
        tables.inspection(console(), found, provenance)
