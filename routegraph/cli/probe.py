"""The command `probe`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from routegraph.cli.options import (
    Dask,
    Device,
    Dtype,
    Items,
    Json,
    Length,
    Model,
    Out,
    Plot,
    Tasks,
    Threads,
    Workers,
    method_help,
    real,
    takes,
)
from routegraph.cli.pace import progress
from routegraph.cli.terminal import check_outputs, console, draw, hand_over
from routegraph.validate.plan import Plan


@takes(Plan)
def probe(
    model: Model,
    task: Tasks,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=method_help("adakv, chunk by default")),
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option(
            parser=real, metavar="RATIO", help="In [0, 1); 0, .5, .8, .9, .95 by default; repeatable."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="type, answer or answerable; type where prompts are tagged with it."
        ),
    ] = None,
    n: Items = None,
    length: Length = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    threads: Threads = None,
    workers: Workers = 1,
    dask: Dask = None,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
    **options: Any,
) -> None:
    """Fit linear probes to what is left of the cache.

    They are fitted to hidden states, too, and stand beside the accuracy of the same items.
    """
    check_outputs(plot, out)
    from routegraph.validate.probe import run
    from routegraph.validate.probe.fit import check_sklearn
    from routegraph.validate.tasks import load_tasks
    from routegraph.validate.work import Work

    work = Work(workers, dask, threads)
    check_sklearn()
    prompts = load_tasks(task, n, options["seed"], length)
    run.check_labels(prompts, target)
    work.use_threads()
    with progress("items") as advance:
        found = run.probe(
            work.load(model, dtype=dtype, device=device, progress=advance),
            prompts,
            policy_names=policy or run.PROBED_POLICIES,
            ratios=ratio or run.PROBED_RATIOS,
            target=target,
            work=work,
            progress=advance,
            **options,
        )
    if plot is not None:
        draw(found.plot(), plot)
    if hand_over(found.to_dict(), json_, out):
        found.page().show(console())
