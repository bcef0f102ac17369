"""Graphs and traces for other programs: graphml, json, csv."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routegraph.files import atomic_open, check_apart, check_writable, write_json
from routegraph.graph import TokenGraph
from routegraph.kernels.rng import seed_sequence
from routegraph.schema import read_document
from routegraph.sim.draw import draw_graph, draw_survival
from routegraph.sim.parameters import RESULT, from_document
from routegraph.survival import Survival
from routegraph.trace import Trace
from routegraph.validate.measure.cells import is_measurement
from routegraph.validate.measure.result import Measured
from routegraph.validate.measure.samples import check_samples_path, samples, write_samples

FORMATS = ("graphml", "json", "csv")
_EDGE = ("layer", "head", "query", "key", "weight", "drop")
_SLOT = ("prompt", "scorer", "layer", "head", "position", "token", "answer", "score")


def export(
    source: str | os.PathLike[str],
    to: str | os.PathLike[str],
    replicate: int | None = None,
    limit: int | None = None,
) -> int:
    """Write what a file holds in a format that other programs read; returns the number of rows.

    Parameters
    ----------
    source : path
        A result of ``simulate --out`` (the graph of one replicate is drawn again from its seed), a trace
        (its scores are written), or a folder of ``measure`` (every reply is written).
    to : path
        File to write; its ending names the format: graphml (graphs only), json or csv; of replies csv or jsonl.
    replicate : int, optional
        Which replicate's graph; of a result of simulate only. The first by default.
    limit : int, optional
        Only the first prompts of a trace or a measurement.

    Raises
    ------
    ValueError
        If the source is none of these, the format is unknown or does not fit it, the replicate does not exist, or
        `replicate` or `limit` means nothing for the source.
    """
    check_apart({"to": to}, [source])
    if is_measurement(source):
        _check_drawn(source, replicate)
        check_samples_path(to)
        found = Measured.load(source)
        return write_samples(to, samples(found.only(np.arange(len(found.ids))[:limit])))
    kind = Path(to).suffix.lstrip(".").lower()
    if kind not in FORMATS:
        raise ValueError(
            f"cannot export to {str(to)!r}: unknown format {kind!r}; choose from: {', '.join(FORMATS)}"
        )
    check_writable(to)
    document = _result(source)
    if document is None:
        _check_drawn(source, replicate)
        return _export_trace(Trace.load(source)[:limit], to, kind)
    if limit is not None:
        raise ValueError(f"limit is for prompts, and {str(source)!r} holds none: it is a result of simulate")
    return _export_graph(document, to, kind, replicate or 0)


def _check_drawn(source: str | os.PathLike[str], replicate: int | None) -> None:
    """Raise ValueError where a replicate is chosen of what has none."""
    if replicate is not None:
        raise ValueError(f"replicate is for a result of simulate, and {str(source)!r} is none")


def edge_rows(graph: TokenGraph, survival: Survival) -> Iterator[tuple[Any, ...]]:
    """Yield (layer, head, query, key, weight, drop) of every read edge; drop is empty where it never dies."""
    columns = [column.tolist() for column in graph.edges()]
    weights = [None] * graph.n_edges if graph.weight is None else graph.weight.tolist()
    for layer, head, query, key, weight in zip(*columns, weights, strict=True):
        drop = int(survival.drop[layer - 1, head, key]) if key < graph.n_context else None
        yield layer, head, query, key, weight, drop


def _result(source: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return a stored result, or None where the file is no JSON."""
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"no file {str(path)!r}")
    if path.suffix.lower() != ".json":
        return None
    found: dict[str, Any] = read_document(path, RESULT, "result of simulate")
    return found


def _export_graph(document: dict[str, Any], to: str | os.PathLike[str], kind: str, replicate: int) -> int:
    parameters = from_document(document)
    replicates = document["parameters"]["replicates"]
    if not 0 <= replicate < replicates:
        raise ValueError(f"replicate must be in 0..{replicates - 1}, got {replicate}")
    sequence = seed_sequence(document["seed"], 0, replicate)
    graph = draw_graph(parameters, sequence)
    survival = draw_survival(parameters, sequence, document["parameters"]["ratio"][-1])
    if kind == "graphml":
        import networkx as nx

        named = nx.relabel_nodes(graph.to_networkx(), lambda node: f"{node[0]}:{node[1]}")
        with atomic_open(to) as stream:
            nx.write_graphml(named, stream)
    elif kind == "json":
        edges = [dict(zip(_EDGE, row, strict=True)) for row in edge_rows(graph, survival)]
        sizes = {
            name: getattr(graph, name) for name in ("n_layers", "n_heads", "n_tokens", "n_context", "causal")
        }
        write_json(to, {**sizes, "max_level": survival.max_level, "edges": edges})
    else:
        _write_csv(to, _EDGE, edge_rows(graph, survival))
    return graph.n_edges


def _export_trace(traces: Sequence[Trace], to: str | os.PathLike[str], kind: str) -> int:
    if kind == "graphml":
        raise ValueError("a trace without edges has no graph; export it to: json, csv")
    if kind == "csv":
        _write_csv(to, _SLOT, (row for trace in traces for row in _slot_rows(trace)))
    else:
        prompts = [
            {
                "id": trace.id,
                "model": trace.model,
                "context": trace.context,
                "offsets": trace.offsets.tolist(),
                "answer": trace.answer.tolist(),
                "scorers": dict(trace.scorers),
                "scores": {
                    name: np.round(table.astype(float), 9).tolist() for name, table in trace.scores.items()
                },
            }
            for trace in traces
        ]
        write_json(to, {"prompts": prompts})
    return sum(table.size for trace in traces for table in trace.scores.values())


def _slot_rows(trace: Trace) -> Iterator[tuple[Any, ...]]:
    tokens = [trace.context[start:stop] for start, stop in trace.offsets.tolist()]
    answers = set(trace.answer.tolist())
    for scorer, table in trace.scores.items():
        for layer, head, position in np.ndindex(*table.shape):
            score = float(table[layer, head, position])
            yield trace.id, scorer, layer + 1, head, position, tokens[position], position in answers, score


def _write_csv(to: str | os.PathLike[str], header: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    with atomic_open(to, "w") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
