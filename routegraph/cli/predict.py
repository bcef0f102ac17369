"""The command `predict`."""

from __future__ import annotations

from pathlib import Path
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
    Plot,
    Policies,
    Presses,
    Ratios,
    SkipDamaged,
    Tasks,
    Threads,
    Workers,
    count,
    share,
    takes,
    with_presses,
)
from routegraph.cli.pace import progress
from routegraph.cli.terminal import check_outputs, console, draw, note, print_json
from routegraph.validate.plan import JUDGING, Plan


@takes(Plan, without=JUDGING)
def predict(
    model: Model,
    task: Tasks,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder that keeps the predictions, a file a prompt; a killed run goes on."
        ),
    ],
    policy: Policies = None,
    press: Presses = None,
    ratio: Ratios = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="CELLS",
            help="Folder that measure wrote of the same model and some of these prompts: calibrate on it.",
        ),
    ] = None,
    within: Annotated[
        float | None,
        share("Say which ratio each prompt may take so that its reply loses no more: see certify."),
    ] = None,
    tries: Annotated[
        int,
        count(
            "Ratios of every policy that are tried, by bisection: the reply is read again with what is left of the "
            "cache. 2 tell far more than the full cache."
        ),
    ] = 0,
    n: Items = None,
    length: Length = None,
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
    """Predict which answers break, and at which ratio.

    From the full cache, or a few tried ratios: nothing is decoded under an eviction, and no right answers are needed.
    """
    check_outputs(plot, None)
    from routegraph.options import check_whole
    from routegraph.tables import many
    from routegraph.validate.measure.cells import PREDICTION, check_folder
    from routegraph.validate.measure.result import Measured
    from routegraph.validate.measure.run import MEASURED_POLICIES, planned
    from routegraph.validate.predict.run import predict as predicted
    from routegraph.validate.tasks import load_tasks
    from routegraph.validate.work import Work

    work = Work(workers, dask, threads)
    asked: dict[str, Any] = {
        "policy_names": with_presses(policy or MEASURED_POLICIES, press),
        "ratios": ratio or None,
        **options,
    }
    planned(keep=(), **asked)  # refuses what it must before anything is loaded
    check_whole("tries", tries, 0)
    if within is not None and not 0 <= within <= 1:
        raise ValueError(f"within must be in [0, 1], got {within}")
    check_folder(out, PREDICTION)
    beside = None if measured is None else Measured.load(measured, skip_damaged)
    prompts = load_tasks(task, n, options["seed"], length)
    work.use_threads()
    with progress("prompts") as advance:
        found = predicted(
            work.load(model, dtype=dtype, device=device, progress=advance),
            prompts,
            out,
            tries=tries,
            measured=beside,
            work=work,
            skip_damaged=skip_damaged,
            progress=advance,
            **asked,
        )
    note(f"predicted {many(len(found.ids), 'prompt')} into {out}")
    if plot is not None:
        draw(found.plot(), plot)
    if json_:
        print_json(found.to_dict(within))
    else:
        found.page(within).show(console())
