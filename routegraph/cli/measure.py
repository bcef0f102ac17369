"""The command `measure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from routegraph.cli.options import (
    Device,
    Dtype,
    Items,
    Json,
    Keep,
    Length,
    Plot,
    Threads,
    count,
    method_help,
    real,
    takes,
)
from routegraph.cli.terminal import check_outputs, console, draw, note, print_json, progress
from routegraph.validate.plan import Plan

if TYPE_CHECKING:
    from routegraph.validate.measure.result import Measured


@takes(Plan)
def measure(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the cell files; resumes after a kill.")],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Known name, local folder, GGUF file, or hub id.")
    ] = "",
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A task, a JSONL file of prompts, or 'bundled'; repeatable."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=method_help("chunk, adakv, topk, snapkv, knorm, random, streaming by default"),
        ),
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option(parser=real, metavar="RATIO", help="In [0, 1); dense beyond .9 by default; repeatable."),
    ] = None,
    keep: Keep = None,
    n: Items = None,
    length: Length = None,
    metrics: Annotated[
        bool,
        typer.Option(
            "--metrics", help="Measure what may tell the items that fail, too: routes, drift; takes time."
        ),
    ] = False,
    carriers: Annotated[
        int, count("Tokens an answer is read from to find by knockout, slow, with --metrics; 0: none.")
    ] = 0,
    log_samples: Annotated[
        bool,
        typer.Option(
            "--log-samples", help="Write every reply into samples.jsonl of the folder, a line each."
        ),
    ] = False,
    regrade: Annotated[
        Path | None,
        typer.Option(
            metavar="CELLS",
            help="Grade the replies in this folder again, into DIR, without a model; takes --grader, no other option "
            "of the measurement.",
        ),
    ] = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    threads: Threads = None,
    json_: Json = False,
    plot: Plot = None,
    **options: Any,
) -> None:
    """Ask every item under eviction, and say how far the answers hold."""
    check_outputs(plot, None)
    if regrade is not None:
        more = (
            ("MODEL", model),
            ("--task", task),
            ("--policy", policy),
            ("--ratio", ratio),
            ("--keep", keep),
        )
        if given := [name for name, value in more if value]:
            raise ValueError(f"--regrade grades replies that are there: it takes no {given[0]}")
        from routegraph.validate.measure.grading import regrade as grade_again

        found = grade_again(regrade, options["grader"], out)
        note(f"graded {len(found.ids)} items again into {out}")
        _show(found, json_, plot, out if log_samples else None)
        return
    if not model or not task:
        missing = "MODEL" if not model else "--task"
        raise ValueError(f"{missing} is missing: measure needs a model and a task, or --regrade CELLS")
    from routegraph.validate.measure import run as measuring
    from routegraph.validate.models.load import load, use_threads
    from routegraph.validate.tasks import load_task

    asked = {
        "policy_names": policy or measuring.MEASURED_POLICIES,
        "ratios": ratio or None,
        "keep": keep or (),
        **options,
    }
    measuring.planned(**asked)  # refuses what it must before anything is loaded
    prompts = [prompt for name in task for prompt in load_task(name, n, options["seed"], length)]

    use_threads(threads)
    with progress("items") as advance:
        found = measuring.measure(
            load(model, dtype=dtype, device=device, progress=advance),
            prompts,
            out,
            metrics=metrics,
            carriers=carriers,
            progress=advance,
            **asked,
        )
    note(
        f"measured {len(found.ids)} items into {out}; routegraph inspect {out} shows every item, --replies every reply"
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
