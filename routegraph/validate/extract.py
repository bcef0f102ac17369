"""Read the scores of every cache row off a real model: one prefill of the context a prompt.

Question-agnostic: the model sees the context alone, as a cache that is compressed before any question is known.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph._version import __version__
from routegraph.files import check_writable
from routegraph.trace import Trace
from routegraph.validate import presses
from routegraph.validate.models import Loaded, load
from routegraph.validate.prompts import BUNDLED, Prompt, Span, read_prompts, write_prompts
from routegraph.validate.sources import Progress

CHUNK_LENGTH = 64
SCORER = "expected_attention"

#: Values a parameter are sampled from for `fingerprint`.
_SAMPLE = 1024


def extract(
    model: Loaded, prompts: Sequence[Prompt], chunk_length: int = CHUNK_LENGTH, progress: Progress | None = None
) -> list[Trace]:
    """Prefill each prompt's context and keep the scores, token spans and answer tokens.

    Parameters
    ----------
    model : Loaded
        See `routegraph.validate.models.load`.
    prompts : sequence of Prompt
        Prefilled one at a time, since scorers ignore the attention mask that padding would need. Prompts without
        answer spans are welcome; their answer is empty.
    chunk_length : int
        Rows of a chunk in the table "expected_attention/chunk<length>".
    progress : callable, optional
        Called as ``progress(done, total, label)``.

    Returns
    -------
    list of Trace
        In the order of the prompts, each with the scores "expected_attention" of the whole context and
        "expected_attention/chunk<length>" of each chunk by itself, float32[n_layers, n_kv_heads, n].

    Raises
    ------
    ValueError
        If a context is too short, longer than the model's positions, or leaves a last chunk too short to be
        scored. All are checked before the first prefill.
    """
    scorers = scorer_parameters(chunk_length)
    encoded = [_encode(model, prompt, chunk_length) for prompt in prompts]
    traces = []
    for done, (prompt, (token_ids, offsets)) in enumerate(zip(prompts, encoded, strict=True)):
        if progress:
            progress(done, len(prompts), prompt.id)
        traces.append(_trace(model, prompt, token_ids, offsets, scorers, chunk_length))
    if progress:
        progress(len(prompts), len(prompts), "done")
    return traces


def extract_to_file(
    model: str | Path,
    prompts: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    chunk_length: int = CHUNK_LENGTH,
    dtype: str = "float32",
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Trace]:
    """Load a model, extract the traces of a prompts file and write them, with what made them, to one file.

    Parameters
    ----------
    model : str or Path
        Known name, folder or hub id: see `routegraph.validate.models.load`, also for `dtype` and `device`.
    prompts : path
        JSONL file, or "bundled".
    out : path
        Trace file to write.
    chunk_length, progress
        As in `extract`.

    Raises
    ------
    ValueError
        On bad input; all that can be checked without the model is checked before it is loaded.
    OSError
        If the model cannot be fetched or the file not be written; then nothing is left of it.
    """
    check_writable(out)
    presses.check_length(chunk_length + 1, _n_sink(), chunk_length=None, what="a chunk") if False else None
    scorer_parameters(chunk_length)
    listed = read_prompts(prompts)
    loaded = load(model, dtype=dtype, device=device, progress=progress)
    traces = extract(loaded, listed, chunk_length, progress)
    Trace.save(out, traces, provenance(loaded, listed, prompts, chunk_length, dtype, device))
    return traces
