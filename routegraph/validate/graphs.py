"""What the heads of a real prefill read, by recomputing q.k in blocks: never an n x n x heads tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.graph import TokenGraph
from routegraph.validate.families import rotated_queries

#: Keys kept of every query row: the heaviest TOP, and every one of weight MASS or more.
TOP, MASS = 16, 0.01
#: Queries recomputed at a time.
BLOCK = 128


class GraphRecorder:
    """Collects what each layer's heads read as a prefill runs; `hook` belongs on every attention module.

    Parameters
    ----------
    n_sink : int
        Positions at the start that count as attention sinks, at most TOP - 1.
    """

    def __init__(self, n_sink: int = 4) -> None:
        self.n_sink = n_sink
        self._edges: list[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]] = []
        self._read: list[dict[str, NDArray[Any]]] = []

    def hook(self, module: Any, _args: Any, kwargs: Mapping[str, Any], _output: Any) -> None:
        """Record one layer; a forward hook with keyword arguments."""
        import torch

        keys = kwargs["past_key_values"].layers[module.layer_idx].keys[0]
        queries = rotated_queries(module, kwargs)
        n_query_heads, n = queries.shape[:2]
        n_heads = keys.shape[0]
        # Query heads of a group lie side by side; double precision, for the sums run over whole contexts.
        sums = torch.zeros(n_query_heads, n, dtype=torch.float64, device=keys.device)
        spread = torch.zeros(n_query_heads, dtype=torch.float64, device=keys.device)
        held, parts, tops, beyond = 0.0, [], [], []
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            logits = _logits(queries[:, start:stop], keys[:, :stop], module.scaling, start)
            weights = logits.softmax(-1)
            # At least two more than the sinks, so that a row's heaviest key beside them is among them.
            wanted = max(TOP, int((weights >= MASS).sum(-1).max()))
            heaviest, key = weights.topk(min(wanted, stop), dim=-1)
            # Entropy = log of the normalisation - mean logit; the former is known from any one weight.
            log_sum = logits.gather(-1, key[..., :1])[..., 0] - heaviest[..., 0].log()
            spread += (log_sum - (weights * logits).sum(-1)).sum(-1)
            sums[:, :stop] += weights.sum(1)
            rank = torch.arange(heaviest.shape[-1], device=keys.device)
            kept = (heaviest > 0) & ((rank < TOP) | (heaviest >= MASS))
            held += float((heaviest * kept).sum())
            parts.append(_rows(heaviest, key, kept, n_heads))
            tops.append(key[..., 0].int())
            first = (key >= self.n_sink).int().argmax(-1, keepdim=True)
            position, weight = key.gather(-1, first)[..., 0], heaviest.gather(-1, first)[..., 0]
            beyond.append(torch.where((position >= self.n_sink) & (weight > 0), position, -1).int())
        count, slot, weight = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        self._edges.append((count, slot, weight))
        by_head = sums.reshape(n_heads, -1, n).sum(1)
        self._read.append(
            {
                "tops": torch.cat(tops, dim=1).cpu().numpy(),
                "tops_without_sink": torch.cat(beyond, dim=1).cpu().numpy(),
                "kept_mass": np.array(held / (n_query_heads * n)),
                "attention": by_head.float().cpu().numpy(),
                "sink_mass": (sums[:, : self.n_sink].sum(1) / n).float().cpu().numpy(),
                "entropy": (spread / n).float().cpu().numpy(),
            }
        )

    def graph(self, n_heads: int, n_tokens: int) -> TokenGraph:
        """Return the recorded edges as a graph; every position is a cache row."""
        counts, slots, weights = zip(*self._edges, strict=True)
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        slot, weight = np.concatenate(slots), np.concatenate(weights)
        return TokenGraph(len(counts), n_heads, n_tokens, n_tokens, True, indptr, slot, weight)

    def recorded(self, n_heads: int, n_tokens: int) -> dict[str, Any]:
        """Return the graph and the further arrays of a `Trace` by name."""
        read = {name: np.stack([layer[name] for layer in self._read]) for name in self._read[0]}
        return {"graph": self.graph(n_heads, n_tokens), **read}


def _logits(queries: Any, keys: Any, scaling: float, start: int) -> Any:
    """Return the scaled products of a block of queries, the first at position `start`, with all keys before its end.

    float32[n_query_heads, n_queries, n_keys]; where a key comes after its query, the smallest number there is (not
    minus infinity, which times a weight of 0 would be no number).
    """
    import torch

    n_query_heads, n_queries, width = queries.shape
    n_heads, n_keys = keys.shape[:2]
    grouped = queries.reshape(n_heads, -1, width)
    logits = torch.matmul(grouped, keys.transpose(1, 2)).float().mul_(scaling)
    logits = logits.reshape(n_query_heads, n_queries, n_keys)
    position = torch.arange(start, start + n_queries, device=keys.device)
    later = torch.arange(n_keys, device=keys.device) > position[:, None]
    return logits.masked_fill_(later, torch.finfo(torch.float32).min)


def _rows(weights: Any, keys: Any, kept: Any, n_heads: int) -> tuple[Any, Any, Any]:
    """Return a block's edges by query: how many each has, their slots in order, their weights.

    weights, keys, kept : [n_query_heads, n_queries, n_ranks].
    """
    import torch

    n_query_heads, n_queries, _ = keys.shape
    head = torch.arange(n_query_heads, device=keys.device) // (n_query_heads // n_heads)
    row = torch.arange(n_queries, device=keys.device)
    slot = keys * n_heads + head[:, None, None]
    place = row[:, None] * (int(slot.max()) + 1) + slot
    order = place[kept].argsort(stable=True)
    count = kept.sum(dim=(0, 2))
    return count, slot[kept][order].int(), weights[kept][order]
