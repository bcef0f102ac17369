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
    Length,
    Plot,
    Threads,
    count,
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
            help="chunk, adakv, topk, snapkv, knorm, random, streaming by default; POLICY@SCORER; repeatable.",
        ),
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option(parser=real, metavar="RATIO", help="In [0, 1); dense beyond .9 by default; repeatable."),
    ] = None,
    n: Items = None,
    length: Length = None,
    regrade: Annotated[
        Path | None,
        typer.Option(
            metavar="CELLS",
            help="Grade the replies in this folder again, into DIR, without a model; takes --grader, no other option "
            "of the measurement.",
        ),
    ] = None,
    carriers: Annotated[int, count("Tokens an answer is read from to find by knockout, slow; 0: none.")] = 0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    threads: Threads = None,
    json_: Json = False,
    plot: Plot = None,
    **options: Any,
) -> None:
    """Measure answers under eviction, item by item, and which metric tells the items that fail."""
    check_outputs(plot, None)
    if regrade is not None:
        asked = [name for name, value in (("MODEL", model), ("--task", task), ("--policy", policy)) if value]
        if asked:
            raise ValueError(f"--regrade grades replies that are there: it takes no {asked[0]}")
        from routegraph.validate.measure.grading import regrade as grade_again

        found = grade_again(regrade, options["grader"], out)
        note(f"graded {len(found.ids)} items again into {out}")
        _show(found, json_, plot)
        return
    if not model or not task:
        missing = "MODEL" if not model else "--task"
        raise ValueError(f"{missing} is missing: measure needs a model and a task, or --regrade CELLS")
    from routegraph.validate.measure import run as measuring
    from routegraph.validate.models.load import load, use_threads
    from routegraph.validate.tasks import load_task

    prompts = [prompt for name in task for prompt in load_task(name, n, options["seed"], length)]

    use_threads(threads)
    with progress("items") as advance:
        found = measuring.measure(
            load(model, dtype=dtype, device=device, progress=advance),
            prompts,
            out,
            policy_names=policy or measuring.MEASURED_POLICIES,
            ratios=ratio or measuring.MEASURED_RATIOS,
            carriers=carriers,
            progress=advance,
            **options,
        )
    note(f"measured {len(found.ids)} items into {out}")
    _show(found, json_, plot)


def _show(found: Measured, json_: bool, plot: Path | None) -> None:
    if plot is not None:
        draw(found.plot(), plot)
    if json_:
        print_json(found.to_dict())
        return
    found.page().show(console())
