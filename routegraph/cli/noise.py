"""The command `noise`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from routegraph.cli.options import (
    Device,
    Dtype,
    Items,
    Json,
    Length,
    Model,
    Out,
    Ratios,
    Tasks,
    Threads,
    takes,
)
from routegraph.cli.pace import progress
from routegraph.cli.terminal import check_outputs, console, hand_over
from routegraph.validate.plan import JUDGING, Plan

_DECODING = ("max_new_tokens", "stop")


@takes(Plan, without=(*JUDGING, *_DECODING))
def noise(
    model: Model,
    task: Tasks,
    bits: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Bits of keys, as of measure; repeatable; 8, 4 and 2 by default."),
    ] = None,
    policy: Annotated[str, typer.Option(metavar="NAME", help="Eviction policy or kvpress method.")] = "topk",
    ratio: Ratios = None,
    n: Items = None,
    length: Length = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    threads: Threads = None,
    json_: Json = False,
    out: Out = None,
    **options: Any,
) -> None:
    """Measure how far few bits move the logits of a model's questions."""
    check_outputs(None, out)
    from routegraph.validate.models.load import load, use_threads
    from routegraph.validate.noise.run import logit_noise
    from routegraph.validate.quantise.precision import Precision
    from routegraph.validate.tasks import load_tasks

    chosen = bits or ["8", "4", "2"]
    for one in chosen:
        Precision.named(one)
    Plan([policy], [0.0, *(ratio or ())], **options)  # refuses what it must before anything is loaded
    prompts = load_tasks(task, n, options["seed"], length)
    use_threads(threads)
    with progress("prompts") as advance:
        found = logit_noise(
            load(model, dtype=dtype, device=device, progress=advance),
            prompts,
            chosen,
            policy=policy,
            ratios=ratio or (),
            progress=advance,
            **options,
        )
    if hand_over(found.to_dict(), json_, out):
        found.page().show(console())
