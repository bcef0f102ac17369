"""What one prefill of a real model showed, as arrays with load and save."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph._version import __version__
from routegraph.arrays import Array, Arrays, opened_arrays
from routegraph.files import atomic_open
from routegraph.graph import TokenGraph
from routegraph.protection import Protection
from routegraph.schema import (
    anything,
    boolean,
    listing,
    maybe,
    record,
    table_of,
    text,
    whole,
)

_FORMAT = "routegraph trace"
_FORMAT_VERSION = 1
_ARRAYS = ("token_ids", "offsets", "answer", "evidence")
_OPTIONAL = ("question", "tops", "tops_without_sink", "kept_mass", "attention", "sink_mass", "entropy")
_GRAPH = ("indptr", "slot", "weight")
_LATER = ("graph", "tops", "tops_without_sink", "attention")


@dataclass(frozen=True, eq=False)
class Trace:
    """Scores and spans of one prompt under one model.

    Attributes
    ----------
    id, task, model, context : str
        Name of the prompt, its task, the model, and the text that was prefilled.
    n_layers, n_heads, n_query_heads, n_context : int
        Layers, KV heads a layer, query heads a layer, cache rows.
    token_ids : int64[n_context]
        Tokens of the context.
    offsets : int64[n_context, 2]
        Character span of each token in `context`.
    answer, evidence : int64[...]
        Sorted positions of the tokens that overlap an answer span; an evidence span.
    question : int64[...] or None
        Positions of the question's tokens, which are cache rows too; None: scored before it was known.
    scores : mapping of str to float32[n_layers, n_heads, n_context]
        Scores by scorer: "expected_attention" of the whole context, "expected_attention/chunk64" with each
        chunk of 64 scored by itself.
    windows : sequence of int
        Sliding window of each layer, in rows, the query's own among them (0: none); empty where no layer has one.
    spares_local : bool
        Whether layers with a window are left alone by what evicts.
    scorers : mapping of str to mapping
        Parameters of each scorer; "n_sink" rows are protected at the start and "window" rows at the end of each
        "chunk_length" rows (of the whole context where there is no chunk_length).
    graph : TokenGraph or None
        Read edges, every position a cache row; the heaviest keys of every query row.
    tops, tops_without_sink : int32[n_layers, n_query_heads, n_context] or None
        Heaviest key of every query head and query; the same without the sinks (-1: none).
    kept_mass : float64[n_layers] or None
        Mean attention mass of a query row that the edges hold.
    attention : float32[n_layers, n_heads, n_context] or None
        Attention that each cache row receives, summed over all queries and the query heads of its KV head.
    sink_mass, entropy : float32[n_layers, n_query_heads] or None
        Means over query rows: attention on the first four positions; entropy of the attention, in nats.
    """

    id: str
    task: str
    model: str
    context: str
    n_layers: int
    n_heads: int
    n_query_heads: int
    n_context: int
    token_ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    answer: NDArray[np.int64]
    evidence: NDArray[np.int64]
    scores: Mapping[str, NDArray[np.float32]]
    scorers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    windows: Sequence[int] = ()
    spares_local: bool = False
    question: NDArray[np.int64] | None = None
    graph: TokenGraph | None = None
    tops: NDArray[np.int32] | None = None
    tops_without_sink: NDArray[np.int32] | None = None
    kept_mass: NDArray[np.float64] | None = None
    attention: NDArray[np.float32] | None = None
    sink_mass: NDArray[np.float32] | None = None
    entropy: NDArray[np.float32] | None = None

    def protected(self, scorer: str) -> NDArray[np.bool_]:
        """Return which rows the scorer protects by construction, bool[n_context].

        Its sinks at the start and its window at the end, of the context or of each chunk.
        """
        return Protection.of(self.scorers.get(scorer, {})).rows(self.n_context)

    @staticmethod
    def save(path: str | os.PathLike[str], traces: Sequence[Trace], provenance: Mapping[str, Any]) -> None:
        """Write the traces of one run to one compressed file, atomically.

        Parameters
        ----------
        path : path
            File to write.
        traces : sequence of Trace
            All prompts of the run.
        provenance : mapping
            What made them (command, parameters, versions), as JSON-ready values.
        """
        arrays: dict[str, NDArray[Any]] = {}
        entries = []
        apart = (*_ARRAYS, *_OPTIONAL, "scores", "graph")
        for number, trace in enumerate(traces):
            entry = {f.name: getattr(trace, f.name) for f in fields(trace) if f.name not in apart}
            if not trace.windows:  # earlier versions read the file, too
                del entry["windows"], entry["spares_local"]
            entries.append({**entry, "scores": list(trace.scores)})
            stored = {name: getattr(trace, name) for name in (*_ARRAYS, *_OPTIONAL)}
            if trace.graph is not None:
                stored |= {f"graph/{name}": getattr(trace.graph, name) for name in _GRAPH}
            arrays |= {f"{number}/{name}": array for name, array in stored.items() if array is not None}
            for scorer, scores in trace.scores.items():
                arrays[f"{number}/scores/{scorer}"] = scores
        header = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "version": __version__,
            "provenance": provenance,
            "traces": entries,
        }
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        with atomic_open(path) as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]

    @staticmethod
    def load(path: str | os.PathLike[str]) -> list[Trace]:
        """Read all traces of a file; their graphs, heaviest keys and attention only when first asked for.

        Raises
        ------
        ValueError
            If the file does not exist, is no trace file, is damaged, or of a later format; also when a graph of
            a damaged file is asked for.
        """
        with _opened(path) as arrays:
            entries = _header(path, arrays)["traces"]
            if len({entry["id"] for entry in entries}) < len(entries):
                raise ValueError("two of its prompts have one id")
            return [_trace(path, number, entry, arrays) for number, entry in enumerate(entries)]

    @staticmethod
    def provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
        """Return what made a trace file (command, parameters, versions)."""
        with _opened(path) as arrays:
            header = _header(path, arrays)
        return {"version": header["version"], **header["provenance"]}


class _Stored(Trace):
    """A trace in a file: its graph, and what grows with the heads, is read when first asked for."""

    @cached_property
    def graph(self) -> TokenGraph | None:
        found = self._later([f"graph/{name}" for name in _GRAPH])
        arrays = [one for one in found if one is not None]
        if len(arrays) < len(found):
            return None
        try:
            return _checked_graph(self, *arrays)
        except ValueError as error:
            path, _ = vars(self)["_place"]
            raise ValueError(f"trace file {str(path)!r} is damaged: prompt {self.id!r}: {error}") from None

    @cached_property
    def tops(self) -> NDArray[np.int32] | None:
        return self._later(["tops"], np.int32)[0]

    @cached_property
    def tops_without_sink(self) -> NDArray[np.int32] | None:
        return self._later(["tops_without_sink"], np.int32)[0]

    @cached_property
    def attention(self) -> NDArray[np.float32] | None:
        return self._later(["attention"], np.float32)[0]

    def _later(self, names: Sequence[str], kind: Any = None) -> list[NDArray[Any] | None]:
        path, number = vars(self)["_place"]
        schema = _arrays({**vars(self), "scores": []})
        with _opened(path) as arrays, _said(f"prompt {self.id!r}", f"{number}/"):
            found = [
                arrays.read(f"{number}/{name}", schema[name]) if f"{number}/{name}" in arrays.names else None
                for name in names
            ]
        return [one if one is None or kind is None else one.astype(kind) for one in found]


#: What the header of a file says of each prompt. Names it lacks are told apart: see `_trace`.
_SIZES = {name: whole(1, 2**31) for name in ("n_layers", "n_heads", "n_query_heads", "n_context")}
_PROTECTED = {"n_sink": whole(0, 2**31), "window": whole(0, 2**31), "chunk_length": maybe(whole(1, 2**31))}
_ENTRY = record(
    {
        **dict.fromkeys(("id", "task", "model", "context"), text),
        **_SIZES,
        "scorers": table_of(record({}, _PROTECTED)),
        "scores": listing(text),
    },
    {"windows": listing(whole(0, 2**31)), "spares_local": boolean},
)
_MADE_BY = record({}, {"command": text, "parameters": table_of(anything), "versions": table_of(text)})
_HEADER = record(
    {"format_version": whole(1), "version": text, "provenance": _MADE_BY, "traces": listing(_ENTRY)}
)


def _arrays(entry: Mapping[str, Any]) -> dict[str, Array]:
    """Return what each array of a prompt must be."""
    layers, heads, queries, n = (entry[name] for name in _SIZES)
    rows = Array("iu", (None,), 0, n - 1, rising=True)
    return {
        "token_ids": Array("iu", (n,), 0),
        "offsets": Array("iu", (n, 2), 0, len(entry["context"])),
        "answer": rows,
        "evidence": rows,
        "question": rows,
        "tops": Array("iu", (layers, queries, n), -1, n - 1),
        "tops_without_sink": Array("iu", (layers, queries, n), -1, n - 1),
        "kept_mass": Array("f", (layers,), 0, 1.01),
        "attention": Array("f", (layers, heads, n), 0),
        "sink_mass": Array("f", (layers, queries), 0, 1.01),
        "entropy": Array("f", (layers, queries), -0.01),
        "graph/indptr": Array("iu", (layers * n + 1,), 0, rising=True),
        "graph/slot": Array("iu", (None,), 0, n * heads - 1),
        "graph/weight": Array("f", (None,), 0),
        **{f"scores/{scorer}": Array("f", (layers, heads, n)) for scorer in entry["scores"]},
    }


def _checked_graph(
    trace: Trace, indptr: NDArray[Any], slot: NDArray[Any], weight: NDArray[Any]
) -> TokenGraph:
    """Return a graph whose edges are all there, each to a key that its query may read."""
    if indptr[0] != 0 or indptr[-1] != len(slot) or len(weight) != len(slot):
        raise ValueError(f"graph/indptr must end at the {len(slot)} edges, each with a weight")
    ends = indptr.astype(np.int64)
    query = np.repeat(np.tile(np.arange(trace.n_context), trace.n_layers), ends[1:] - ends[:-1])
    if (slot // trace.n_heads > query).any():
        raise ValueError("graph/slot has a key after its query")
    kept = np.int32 if trace.n_context * trace.n_heads < 2**31 else np.int64
    return TokenGraph(
        trace.n_layers,
        trace.n_heads,
        trace.n_context,
        trace.n_context,
        True,
        indptr.astype(np.int64),
        slot.astype(kept),
        weight.astype(np.float32),
    )


@contextmanager
def _said(prompt: str, before: str) -> Iterator[None]:
    """Let what is wrong with an array tell the prompt in place of its number."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{prompt}: {str(error).removeprefix(before)}") from None


def _trace(path: str | os.PathLike[str], number: int, entry: dict[str, Any], arrays: Arrays) -> Trace:
    said = f"prompt {entry['id']!r}"
    if (entry["n_query_heads"] % entry["n_heads"]) or len(set(entry["scores"])) < len(entry["scores"]):
        raise ValueError(f"{said}: its heads or the names of its scores do not fit each other")
    if len(entry.get("windows", ())) not in (0, entry["n_layers"]):
        raise ValueError(f"{said}: windows must be as many as its {entry['n_layers']} layers")
    schema = _arrays(entry)

    def read(name: str, kind: Any = None) -> NDArray[Any]:
        with _said(said, f"{number}/"):
            found = arrays.read(f"{number}/{name}", schema[name])
        return found if kind is None else found.astype(kind)

    given: dict[str, Any] = {**entry, **{name: read(name, np.int64) for name in _ARRAYS}}
    for name in _OPTIONAL:
        if name not in _LATER:
            given[name] = read(name) if f"{number}/{name}" in arrays.names else None
    given["scores"] = {scorer: read(f"scores/{scorer}", np.float32) for scorer in entry["scores"]}
    try:
        Trace(**given)  # refuses what is missing or unknown
    except TypeError:
        known = {one.name for one in fields(Trace)}
        raise ValueError(
            f"{said} has {sorted(set(given) - known)}, which this version does not know"
        ) from None
    trace = object.__new__(_Stored)
    vars(trace).update(given, _place=(Path(path), number))
    return trace


def _header(path: str | os.PathLike[str], arrays: Arrays) -> dict[str, Any]:
    """Return the header of a trace file, checked."""
    try:
        header = arrays.document("header")
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise NotOursError
    version, by = header.get("format_version"), header.get("version")
    if isinstance(version, int) and version > _FORMAT_VERSION and isinstance(by, str):
        raise NotOursError(f"trace file {str(path)!r} was written by routegraph {by}; upgrade to read it")
    if not isinstance(version, int) or by is None:
        raise ValueError("its header lacks the version")
    _HEADER(header, "")
    return header


class NotOursError(Exception):
    """A file that is no trace of this or an earlier version; with words of its own, or none."""


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Arrays]:
    """Open a trace file; whatever goes wrong inside is one sentence."""
    try:
        with opened_arrays(path, "trace file") as arrays:
            yield arrays
    except NotOursError as error:
        raise ValueError(str(error) or f"{str(path)!r} is not a routegraph trace file") from None
