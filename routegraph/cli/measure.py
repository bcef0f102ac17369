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
    Keep,
    Length,
    Model,
    Plot,
    Tasks,
    Threads,
    count,
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
            help="chunk, adakv, topk, snapkv, knorm, random, streaming by default; POLICY@SCORER; repeatable.",
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
    dtype: Dtype = "float32",
    device: Device = "cpu",
    threads: Threads = None,
    json_: Json = False,
    plot: Plot = None,
    **options: Any,
) -> None:
    """Ask every item under eviction, and say how far the answers hold."""
    check_outputs(plot, None)
    from routegraph.validate.measure import run as measuring
    from routegraph.validate.measure.samples import samples, write_samples
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
    if log_samples:
        note(f"wrote {out / 'samples.jsonl'}: {write_samples(out / 'samples.jsonl', samples(found))} replies")
    if plot is not None:
        draw(found.plot(), plot)
    if json_:
        print_json(found.to_dict())
        return
    found.page().show(console())
