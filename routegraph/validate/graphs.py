"""The read graph of a real prefill, by recomputing q.k in blocks: never an n x n x heads tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.graph import TokenGraph
from routegraph.validate.families import rotated_queries

#: Keys kept of every query row: the heaviest TOP, and every one of weight MASS or more.
TOP, MASS = 16, 0.01
#: Queries recomputed at a time.
BLOCK = 128


@dataclass
class GraphRecorder:
    """Collects the edges of each layer as a prefill runs; `hook` belongs on every attention module.

    Attributes
    ----------
    layers : list of arrays
        (head, query, key, weight) of each layer's edges, head being the KV head.
    tops, tops_without_sink : list of int32[n_query_heads, n]
        Heaviest key of every query head and query; the same without the first `n_sink` positions (-1: none).
    mass : list of float
        Mean attention mass of a row that the kept edges hold.
    """

    n_sink: int = 4

    def __post_init__(self) -> None:
        self.layers: list[tuple[NDArray[Any], ...]] = []
        self.tops: list[NDArray[np.int32]] = []
        self.tops_without_sink: list[NDArray[np.int32]] = []
        self.mass: list[float] = []

    def hook(self, module: Any, _args: Any, kwargs: Mapping[str, Any], _output: Any) -> None:
        """Record one layer; a forward hook with keyword arguments."""
        import torch

        keys = kwargs["past_key_values"].layers[module.layer_idx].keys[0]
        queries = rotated_queries(module, kwargs)
        n_query_heads, n = queries.shape[:2]
        group = n_query_heads // keys.shape[0]
        keys = keys.repeat_interleave(group, dim=0).transpose(1, 2)
        parts, tops, without_sink, mass = [], [], [], 0.0
        for start in range(0, n, BLOCK):
            rows = torch.arange(start, min(start + BLOCK, n), device=keys.device)
            logits = torch.matmul(queries[:, rows], keys).float() * module.scaling
            logits.masked_fill_(torch.arange(n, device=keys.device) > rows[:, None], float("-inf"))
            weights = logits.softmax(-1)
            wanted = max(TOP, int((weights >= MASS).sum(-1).max()))
            heaviest, key = weights.topk(min(wanted, n), dim=-1)
            rank = torch.arange(heaviest.shape[-1], device=keys.device)
            kept = (heaviest > 0) & ((rank < TOP) | (heaviest >= MASS))
            head, row, place = kept.nonzero(as_tuple=True)
            parts.append((head // group, rows[row], key[head, row, place], heaviest[head, row, place]))
            mass += float((heaviest * kept).sum())
            tops.append(key[..., 0])
            weights[..., : self.n_sink] = -1
            best, position = weights.max(-1)
            without_sink.append(torch.where(best > 0, position, -1))
        self.layers.append(tuple(torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)))
        self.tops.append(torch.cat(tops, dim=1).int().cpu().numpy())
        self.tops_without_sink.append(torch.cat(without_sink, dim=1).int().cpu().numpy())
        self.mass.append(mass / (n_query_heads * n))

    def graph(self, n_heads: int, n_tokens: int) -> TokenGraph:
        """Return the recorded edges as a graph; every position is a cache row."""
        layer = np.repeat(np.arange(1, len(self.layers) + 1), [len(columns[0]) for columns in self.layers])
        head, query, key, weight = (np.concatenate(column) for column in zip(*self.layers, strict=True))
        return TokenGraph.from_edges(len(self.layers), n_heads, n_tokens, layer, head, query, key, weight)
