"""The command `extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from routegraph.cli.options import (
    Dask,
    Device,
    Dtype,
    Model,
    Presses,
    Threads,
    Workers,
    count,
    takes,
    with_presses,
)
from routegraph.cli.pace import progress
from routegraph.cli.terminal import note
from routegraph.validate.prompts.asking import Asks


@takes(Asks)
def extract(
    model: Model,
    prompts: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="A file of prompts, of any format that `routegraph prompts` reads, or 'bundled'.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Trace file to write, .npz.")],
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What scores the rows, see `routegraph list`; NAME/chunk64 does so chunk by chunk; by default "
            "expected_attention, both ways; repeatable.",
        ),
    ] = None,
    press: Presses = None,
    chunk_length: Annotated[int, count("Rows of a chunk, where chunks are scored one by one.")] = 64,
    limit: Annotated[int | None, count("Only the first N prompts.")] = None,
    graphs: Annotated[
        bool, typer.Option("--graphs", help="Keep the attention graphs, too, which reach needs.")
    ] = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    threads: Threads = None,
    workers: Workers = 1,
    dask: Dask = None,
    **options: Any,
) -> None:
    """Score every row of a real model's cache, prompt by prompt.

    One prefill a prompt; the trace file has the scores of every (layer, KV head, token). A killed run goes on where it
    was: what it has finished lies beside the file, in a hidden folder .NAME.parts.
    """
    from routegraph.tables import many
    from routegraph.validate.presses.scorers import DEFAULT_SCORERS
    from routegraph.validate.traces.extract import extract_to_file
    from routegraph.validate.work import Work

    work = Work(workers, dask, threads)
    work.use_threads()
    with progress("prompts") as advance:
        traces = extract_to_file(
            model,
            prompts,
            out,
            chunk_length=chunk_length,
            limit=limit,
            dtype=dtype,
            device=device,
            progress=advance,
            graphs=graphs,
            work=work,
            scorers=with_presses(scorer or DEFAULT_SCORERS, press),
            **options,
        )
    rows = sum(trace.n_context for trace in traces)
    note(f"wrote {out}: {many(len(traces), 'prompt')}, {many(rows, 'token')}")
