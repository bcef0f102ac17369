"""The command `probe`; imported by `routegraph.cli`, which owns the app."""

from __future__ import annotations

from typing import Annotated

import typer

from routegraph.cli import (
    ChunkLength,
    Device,
    Dtype,
    Items,
    Json,
    Length,
    Model,
    Out,
    Plot,
    QuestionAware,
    ReplyLength,
    Seed,
    Tasks,
    Threads,
    _real,
    app,
)
from routegraph.terminal import check_outputs, console, draw, hand_over, progress


@app.command()
def probe(
    model: Model,
    task: Tasks,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="adakv, chunk by default; POLICY@SCORER; repeatable."),
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option(
            parser=_real, metavar="RATIO", help="In [0, 1); 0, .5, .8, .9, .95 by default; repeatable."
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
    question_aware: QuestionAware = False,
    max_new_tokens: ReplyLength = None,
    chunk_length: ChunkLength = 64,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    threads: Threads = None,
    seed: Seed = 0,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
) -> None:
    """Fit linear probes to hidden states and to what is left of the cache, beside the accuracy of the same items."""
    check_outputs(plot, out)
    from routegraph.validate import probes
    from routegraph.validate.measure import MAX_NEW_TOKENS
    from routegraph.validate.models import load, use_threads
    from routegraph.validate.probe_fit import check_sklearn
    from routegraph.validate.tasks import load_task

    check_sklearn()
    prompts = [prompt for name in task for prompt in load_task(name, n, seed, length)]
    probes.check_labels(prompts, target)
    use_threads(threads)
    with progress("items") as advance:
        found = probes.probe(
            load(model, dtype=dtype, device=device, progress=advance),
            prompts,
            policy_names=policy or probes.POLICIES,
            ratios=ratio or probes.RATIOS,
            target=target,
            question_aware=question_aware,
            max_new_tokens=max_new_tokens or MAX_NEW_TOKENS,
            chunk_length=chunk_length,
            seed=seed,
            progress=advance,
        )
    if plot is not None:
        draw(found.plot(), plot)
    if hand_over(found.to_dict(), json_, out):
        from routegraph import views_probe

        views_probe.probed(console(), found)
