"""The command `measure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from routegraph.cli.options import (
    Dask,
    Device,
    Dtype,
    Items,
    Json,
    Keep,
    Length,
    Plot,
    Policies,
    Presses,
    Ratios,
    SkipDamaged,
    Threads,
    Workers,
    count,
    takes,
    whole,
    with_presses,
)
from routegraph.cli.pace import progress
from routegraph.cli.terminal import check_outputs, console, draw, note, print_json
from routegraph.validate.plan import Measuring

if TYPE_CHECKING:
    from routegraph.validate.measure.result import Measured


@takes(Measuring)
def measure(
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder that keeps the replies, a file a prompt; a killed run goes on."
        ),
    ],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Known name, local folder, GGUF file, or hub id.")
    ] = "",
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A task, a file of prompts, or 'bundled'; repeatable."),
    ] = None,
    policy: Policies = None,
    press: Presses = None,
    ratio: Ratios = None,
    keep: Keep = None,
    decode_budget: Annotated[
        list[int] | None,
        typer.Option(
            parser=whole,
            metavar="N",
            help="Rows that each slot is cut to while the reply is decoded, in place of --ratio; repeatable.",
        ),
    ] = None,
    n: Items = None,
    length: Length = None,
    metrics: Annotated[
        bool,
        typer.Option(
            "--metrics",
            help="Measure as well what may tell which prompts fail: routes, drift; takes more time.",
        ),
    ] = False,
    carriers: Annotated[
        int, count("With --metrics: find so many tokens that the answer is read from, by knockout; slow.")
    ] = 0,
    log_samples: Annotated[
        bool,
        typer.Option("--log-samples", help="Write every reply into samples.jsonl of the folder, one a line."),
    ] = False,
    regrade: Annotated[
        Path | None,
        typer.Option(
            metavar="CELLS",
            help="Grade the replies in this folder again, without a model, and write them into DIR; of the options "
            "that say how to measure, only --grader goes with it.",
        ),
    ] = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    threads: Threads = None,
    workers: Workers = 1,
    dask: Dask = None,
    skip_damaged: SkipDamaged = False,
    json_: Json = False,
    plot: Plot = None,
    **options: Any,
) -> None:
    """Ask a model questions under eviction; say how far answers hold."""
    check_outputs(plot, None)
    if regrade is not None:
        more = (
            ("MODEL", model),
            ("--task", task),
            ("--policy", policy),
            ("--press", press),
            ("--ratio", ratio),
            ("--keep", keep),
            ("--decode-budget", decode_budget),
        )
        if given := [name for name, value in more if value]:
            raise ValueError(f"--regrade grades replies that are there: it takes no {given[0]}")
        from routegraph.tables import many
        from routegraph.validate.measure.grading import regrade as grade_again

        found = grade_again(regrade, options["grader"], out)
        note(f"graded {many(len(found.ids), 'item')} again into {out}")
        _show(found, json_, plot, out if log_samples else None)
        return
    if not model or not task:
        missing = "MODEL" if not model else "--task"
        raise ValueError(f"{missing} is missing: measure needs a model and a task, or --regrade CELLS")
    from routegraph.tables import many
    from routegraph.validate.measure import run as measuring
    from routegraph.validate.measure.cells import check_folder
    from routegraph.validate.tasks import load_tasks
    from routegraph.validate.work import Work

    work = Work(workers, dask, threads)

    asked = {
        "policy_names": with_presses(policy or ([] if decode_budget else measuring.MEASURED_POLICIES), press)
        or None,
        "ratios": ratio or None,
        "keep": keep or (),
        "decode_budget": decode_budget or (),
        **options,
    }
    plan = measuring.planned(**asked)  # refuses what it must before anything is loaded
    measuring.check_metrics(plan, bool(metrics or carriers))
    check_folder(out)
    prompts = load_tasks(task, n, options["seed"], length)

    work.use_threads()
    with progress("items") as advance:
        found = measuring.measure(
            work.load(model, dtype=dtype, device=device, progress=advance),
            prompts,
            out,
            metrics=metrics,
            carriers=carriers,
            work=work,
            skip_damaged=skip_damaged,
            progress=advance,
            **asked,
        )
    note(
        f"measured {many(len(found.ids), 'item')} into {out}; routegraph inspect {out} shows every item, "
        "--replies every reply"
    )
    _show(found, json_, plot, out if log_samples else None)


def _show(found: Measured, json_: bool, plot: Path | None, log: Path | None) -> None:
    if log is not None:
        from routegraph.validate.measure.samples import samples, write_samples

        note(f"wrote {log / 'samples.jsonl'}: {write_samples(log / 'samples.jsonl', samples(found))} replies")
    if plot is not None:
        draw(found.plot(), plot)
    if json_:
        print_json(found.to_dict())
        return
    found.page().show(console())
