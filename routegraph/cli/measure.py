"""The command `measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from routegraph.cli.options import (
    Device,
    Dtype,
    Items,
    Json,
    Length,
    Model,
    Plot,
    Tasks,
    Threads,
    count,
    method_help,
    real,
    takes,
)
from routegraph.cli.terminal import check_outputs, console, draw, note, print_json, progress
from routegraph.validate.plan import Plan


@takes(Plan)
def measure(
    model: Model,
    task: Tasks,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the cell files; resumes after a kill.")],
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
    n: Items = None,
    length: Length = None,
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
    if plot is not None:
        draw(found.plot(), plot)
    if json_:
        print_json(found.to_dict())
        return
    found.page().show(console())
