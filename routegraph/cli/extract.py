"""The command `extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from routegraph.cli.options import Device, Dtype, Model, Threads, count, takes
from routegraph.cli.terminal import note, progress
from routegraph.validate.prompts.asking import Asks


@takes(Asks)
def extract(
    model: Model,
    prompts: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="A file that `routegraph prompts` understands; 'bundled': the ones that ship.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Trace file to write.")],
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What rows are scored by, NAME/chunk64 by chunks; repeatable; expected_attention by default.",
        ),
    ] = None,
    chunk_length: Annotated[int, count("Rows of a chunk scored by itself.")] = 64,
    limit: Annotated[int | None, count("Only the first N prompts.")] = None,
    graphs: Annotated[bool, typer.Option("--graphs", help="Keep the read graphs, too.")] = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    threads: Threads = None,
    **options: Any,
) -> None:
    """Prefill each prompt once and write the scores of every (layer, KV head, token)."""
    from routegraph.validate.models.load import use_threads
    from routegraph.validate.presses.scorers import DEFAULT_SCORERS
    from routegraph.validate.traces.extract import extract_to_file

    use_threads(threads)
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
            scorers=scorer or DEFAULT_SCORERS,
            **options,
        )
    rows = sum(trace.n_context for trace in traces)
    note(f"wrote {out}: {len(traces)} prompts, {rows} tokens")
