"""What one prefill of a real model showed, as arrays with load and save."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph._version import __version__
from routegraph.files import atomic_open
from routegraph.graph import TokenGraph
from routegraph.protection import Protection

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
        header, arrays = _read(path)
        try:
            return [_trace(path, number, entry, arrays) for number, entry in enumerate(header["traces"])]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"trace file {str(path)!r} is damaged: {error}") from None

    @staticmethod
    def provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
        """Return what made a trace file (command, parameters, versions)."""
        header, _ = _read(path, header_only=True)
        return {"version": header["version"], **header["provenance"]}


class _Stored(Trace):
    """A trace in a file: its graph, and what grows with the heads, is read when first asked for."""

    @cached_property
    def graph(self) -> TokenGraph | None:
        arrays = self._later([f"graph/{name}" for name in _GRAPH])
        if len(arrays) < len(_GRAPH):
            return None
        return TokenGraph(self.n_layers, self.n_heads, self.n_context, self.n_context, True, *arrays)

    @cached_property
    def tops(self) -> NDArray[np.int32] | None:
        return next(iter(self._later(["tops"])), None)

    @cached_property
    def tops_without_sink(self) -> NDArray[np.int32] | None:
        return next(iter(self._later(["tops_without_sink"])), None)

    @cached_property
    def attention(self) -> NDArray[np.float32] | None:
        return next(iter(self._later(["attention"])), None)

    def _later(self, names: Sequence[str]) -> list[NDArray[Any]]:
        path, number = vars(self)["_place"]
        with _opened(path) as stored:
            members = [f"{number}/{name}" for name in names]
            return [stored[member] for member in members if member in stored.files]


def _trace(
    path: str | os.PathLike[str], number: int, entry: dict[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> Trace:
    read: dict[str, Any] = {name: arrays[f"{number}/{name}"] for name in _ARRAYS}
    scores = {scorer: arrays[f"{number}/scores/{scorer}"] for scorer in entry["scores"]}
    shape = (entry["n_layers"], entry["n_heads"], entry["n_context"])
    for scorer, table in scores.items():
        if table.shape != shape:
            raise ValueError(f"scores {scorer!r} of prompt {entry['id']!r} are {table.shape}, not {shape}")
    for name in _OPTIONAL:
        if name not in _LATER:
            read[name] = arrays.get(f"{number}/{name}")
    given = {**entry, **read, "scores": scores}
    Trace(**given)  # refuses what is missing or unknown
    trace = object.__new__(_Stored)
    vars(trace).update(given, _place=(Path(path), number))
    return trace


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a trace file; whatever goes wrong inside is one sentence."""
    if not Path(path).is_file():
        raise ValueError(f"no trace file {str(path)!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{str(path)!r} is not a routegraph trace file, or is damaged")
    try:
        with np.load(path, allow_pickle=False) as stored:
            yield stored
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        # RuntimeError: a flipped bit can make a member look encrypted or packed by another method.
        # What zipfile says may quote the file's bytes: not for the user's eyes.
        raise ValueError(f"trace file {str(path)!r} is damaged") from error


def _read(
    path: str | os.PathLike[str], header_only: bool = False
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the header of a trace file, and the arrays that are not read later."""
    arrays: dict[str, NDArray[Any]] = {}
    header: Any = {}
    with _opened(path) as stored:
        if "header" in stored.files and hasattr(stored["header"], "tobytes"):
            header = json.loads(stored["header"].tobytes())
        if not header_only:
            wanted = [name for name in stored.files if not name.partition("/")[2].startswith(_LATER)]
            arrays = {name: stored[name] for name in wanted}
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"{str(path)!r} is not a routegraph trace file")
    if not isinstance(header.get("format_version"), int) or "version" not in header:
        raise ValueError(f"trace file {str(path)!r} is damaged: its header lacks the version")
    if header["format_version"] > _FORMAT_VERSION:
        raise ValueError(
            f"trace file {str(path)!r} was written by routegraph {header['version']}; upgrade to read it"
        )
    return header, arrays
