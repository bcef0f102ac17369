"""Read the scores of every cache row off a real model: one prefill of the context a prompt.

Question-agnostic by default: the model sees the context alone, as a cache that is compressed before any question is
known. Question-aware: it sees the question after it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from routegraph.files import check_apart, check_writable
from routegraph.options import check_names, takes
from routegraph.trace import Trace
from routegraph.validate.models.load import Loaded, fingerprint
from routegraph.validate.models.sources import Progress
from routegraph.validate.models.speed import expect
from routegraph.validate.presses import prefill
from routegraph.validate.presses.scorers import (
    CHUNK_LENGTH,
    DEFAULT_SCORERS,
    ScoreTable,
    check_table,
    checked_tables,
    fitting_chunk,
    score_tables,
)
from routegraph.validate.prompts.asking import Asks
from routegraph.validate.prompts.prompt import Prompt, counted_once, occurrences, prompts_bytes, read_prompts
from routegraph.validate.prompts.tokens import Context, UnfitPromptError, read_context, tell_set_aside, unfit
from routegraph.validate.traces.parts import Parts, versions
from routegraph.validate.traces.read_graph import GraphRecorder
from routegraph.validate.work import HERE, Work, in_order


@takes(Asks)
def extract(
    model: Any,
    prompts: Sequence[Prompt],
    chunk_length: int = CHUNK_LENGTH,
    progress: Progress | None = None,
    graphs: bool = False,
    scorers: Sequence[Any] = DEFAULT_SCORERS,
    work: Work = HERE,
    parts: Parts | None = None,
    **options: Any,
) -> list[Trace]:
    """Prefill each prompt's context once and keep the scores, token spans and answer tokens.

    Parameters
    ----------
    model : Loaded, str or Path
        Whatever `routegraph.validate.models.load.load` takes.
    prompts : sequence of Prompt
        Prefilled one at a time, since scorers ignore the attention mask that padding would need. Without answer
        spans, every place of the answer in the context is one. A prompt that is too long for the model or too short
        for a scorer is set aside, and a warning names it.
    chunk_length : int
        Rows of a chunk in the table "expected_attention/chunk<length>"; a few less where a last chunk could not be
        scored, which the parameters of the trace's table tell.
    progress : callable, optional
        Called as ``progress(done, total, label)`` after each layer; `done` prompts, in fractions. Of workers, after
        each prompt.
    graphs : bool
        Whether to keep the read graphs, too (`routegraph.validate.traces.read_graph`).
    scorers : sequence of str or kvpress press
        See `routegraph.validate.presses.scorers.score_tables`. All are asked in the same prefill.
    work : Work
        Who computes the traces: see `routegraph.validate.work.Work`; by default the calling process.
    parts : Parts, optional
        Where finished traces are kept, and taken from.
    **options

    Returns
    -------
    list of Trace
        In the order of the prompts, each with the scores float32[n_layers, n_kv_heads, n] by name:
        "expected_attention" of the whole context, "expected_attention/chunk<length>" of each chunk by itself; other
        scorers by their names, presses by the names of their classes.

    Raises
    ------
    ValueError
        If a scorer is unknown or scores otherwise at another ratio; if no prompt is left. Lengths are checked before
        the first prefill.
    """
    asks = _asks(options)
    tables = checked_tables(scorers, chunk_length)
    model = work.load(model)
    fitting, aside, prompts = [], [], counted_once(prompts)
    for prompt in prompts:
        try:
            fitting.append((prompt, _encode(model, prompt, tables, asks)))
        except UnfitPromptError as error:
            aside.append((prompt.id, str(error)))
    tell_set_aside(aside, len(prompts))
    found = {k: parts.load(prompt) for k, (prompt, _) in enumerate(fitting)} if parts else {}
    missing = [k for k in range(len(fitting)) if found.get(k) is None]
    items = []
    expect(progress, model, [len(fitting[k][1].token_ids) for k in missing], len(missing), work.workers)
    for done, k in enumerate(missing):
        prompt, context = fitting[k]
        told, label = None, prompt.id
        if work.here:
            told = _telling_layers(progress, prompt.id, done, len(missing), model.n_layers)
            label = f"{prompt.id}, layer 0/{model.n_layers}"
        items.append((label, (prompt, context, scorers, chunk_length, graphs, told)))

    def keep(done: int, trace: Trace) -> None:
        if parts:
            parts.save(fitting[missing[done]][0], trace)

    made: list[Trace] = in_order(model, trace_prompt, items, work, progress, keep)
    found |= zip(missing, made, strict=True)
    if progress:
        progress(len(missing), len(missing), "done")
    return [trace for k in range(len(fitting)) if (trace := found[k]) is not None]


@takes(Asks)
def extract_to_file(
    model: Any,
    prompts: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    chunk_length: int = CHUNK_LENGTH,
    limit: int | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    progress: Progress | None = None,
    graphs: bool = False,
    scorers: Sequence[Any] = DEFAULT_SCORERS,
    work: Work = HERE,
    **options: Any,
) -> list[Trace]:
    """Load a model, extract the traces of a prompts file and write them, with what made them, to one file.

    A call that was interrupted or killed is gone on with by the next one, prompt by prompt: what is finished lies in a
    hidden folder beside the file, ``.NAME.parts``, until that is whole.

    Parameters
    ----------
    model : str, Path or Loaded
        Known name, folder, GGUF file or hub id: see `models.load.load`, also for `dtype` and `device`.
    prompts : path
        JSONL file, or "bundled".
    out : path
        Trace file to write.
    chunk_length, progress, graphs, scorers, work
        As in `extract`; `progress` is told of the model, too.
    **options
    limit : int, optional
        Take only so many prompts, from the top of the file.

    Raises
    ------
    ValueError
        On bad input; all that can be checked without the model is checked before it is loaded.
    OSError
        If the model cannot be fetched or the file not be written; then nothing is left of it.
    """
    check_writable(out)
    check_apart({"out": out}, [prompts, *([model] if isinstance(model, str | os.PathLike) else [])])
    asks = _asks(options)
    names = list(checked_tables(scorers, chunk_length))
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    listed = read_prompts(prompts)[:limit]
    loaded = work.load(model, dtype=dtype, device=device, progress=progress)
    parts = Parts.of(out, loaded, scorers, (chunk_length, graphs, asks, work.n_threads()))
    try:
        traces = extract(loaded, listed, chunk_length, progress, graphs, scorers, work, parts, **options)
    except ValueError:  # refused: nothing is left
        if parts:
            parts.remove()
        raise
    parameters = {
        "model": loaded.name,
        "prompts": Path(prompts).name,
        "scorers": names,
        "chunk_length": chunk_length,
        "limit": limit,
        "dtype": dtype,
        "device": device,
        "graphs": graphs,
        **asks.asking(loaded),
    }
    Trace.save(out, traces, provenance(loaded, prompts, parameters))
    if parts:
        parts.remove()  # what was taken from them has been read whole to be written
    return traces


def provenance(
    model: Loaded, prompts: str | os.PathLike[str], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what made a trace file: parameters, the model's and the prompts' fingerprints, versions."""
    return {
        "command": "extract",
        "parameters": dict(parameters),
        "model": {"name": model.name, "family": model.model.config.model_type, "sha256": fingerprint(model)},
        "prompts": {
            "name": Path(prompts).name,
            "sha256": hashlib.sha256(prompts_bytes(prompts)).hexdigest(),
        },
        "versions": versions(),
    }


def _asks(options: dict[str, Any]) -> Asks:
    """Return how prompts are put to the model; TypeError or ValueError where an option is unknown or out of range."""
    check_names("extract", Asks, options)
    return Asks(**options)


def _fitted(tables: Mapping[str, ScoreTable], n: int) -> dict[str, ScoreTable]:
    """Return tables whose chunks fit a context of `n` tokens; their names stay."""
    return {
        name: replace(table, chunk_length=table.chunk_length and fitting_chunk(n, table.chunk_length))
        for name, table in tables.items()
    }


def _encode(model: Loaded, prompt: Prompt, tables: Mapping[str, ScoreTable], asks: Asks) -> Context:
    """Tokenise a context that can be scored."""
    context = read_context(model, prompt, asks)
    what, n = f"prompt {prompt.id!r}", len(context.token_ids)
    with unfit():
        for table in _fitted(tables, n).values():
            check_table(n, table.press, table.chunk_length, what, table.scorer)
    if n > model.max_context:
        raise UnfitPromptError(
            f"{what} has {n} tokens; model {model.name!r} was made for {model.max_context} at most"
        )
    return context


def _telling_layers(
    progress: Progress | None, name: str, done: int, total: int, n_layers: int
) -> Callable[[int], None]:
    """Return what tells the progress of one prompt, layer by layer."""

    def told(layer: int) -> None:
        if progress is not None:
            progress(done + layer / n_layers, total, f"{name}, layer {layer}/{n_layers}")

    return told


def trace_prompt(
    model: Loaded,
    prompt: Prompt,
    context: Context,
    scorers: Sequence[Any],
    chunk_length: int,
    graphs: bool,
    told: Callable[[int], None] | None = None,
) -> Trace:
    """Return the trace of one prompt whose context is tokens already; `told` is called after each layer."""
    import torch

    recorder = GraphRecorder() if graphs else None

    def after_layer(module: Any, *given: Any) -> None:
        if recorder is not None:
            recorder.hook(module, *given)
        if told is not None:
            told(module.layer_idx + 1)

    n, offsets = len(context.token_ids), context.offsets
    # Fresh presses: one may keep what it worked out.
    tables = _fitted(score_tables(scorers, chunk_length), n)
    scores = prefill.prefill_tables(
        model.model,
        torch.from_numpy(context.token_ids)[None],
        {name: (table.press, table.chunk_length) for name, table in tables.items()},
        also=after_layer,
        inside=recorder.attending(model.model, n) if recorder is not None else None,
    )
    recorded: dict[str, Any] = {}
    if recorder is not None:
        recorded = recorder.recorded(model.n_heads, n)
    return Trace(
        id=prompt.id,
        task=prompt.task,
        model=model.name,
        context=context.text,
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        n_query_heads=model.n_query_heads,
        n_context=n,
        token_ids=context.token_ids,
        offsets=offsets,
        answer=context.positions(prompt.answer_spans or (occurrences(prompt) if prompt.answerable else ())),
        evidence=context.positions(prompt.evidence),
        question=context.question,
        **model.local,
        scores=scores,
        scorers={name: table.recorded(n) for name, table in tables.items()},
        **recorded,
    )
