"""What the heads of a real prefill read, by recomputing q.k in blocks: never an n x n x heads tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.graph import TokenGraph
from routegraph.kernels.heaviest import heaviest_keys
from routegraph.validate.models.attention import BLOCK, attention_logits, attention_of
from routegraph.validate.models.families import rotated_queries

#: Keys kept of every query row: the heaviest TOP, and every one of weight MASS or more.
TOP, MASS = 16, 0.01


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
        queries, attention = rotated_queries(module, kwargs), attention_of(module)
        n_query_heads, n = queries.shape[:2]
        n_heads = keys.shape[0]
        sums = torch.zeros(n_query_heads, n, dtype=torch.float64, device=keys.device)
        spread = torch.zeros(n_query_heads, dtype=torch.float64, device=keys.device)
        parts = []
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            logits = attention_logits(queries[:, start:stop], keys[:, :stop], attention, start)
            weights = logits.softmax(-1)
            found = heaviest_keys(weights.cpu().numpy(), start, n_heads, TOP, MASS, self.n_sink)
            parts.append(found)
            sums[:, :stop] += weights.sum(1)
            # Entropy = log of the normalisation - mean logit; any one weight tells the former.
            top = torch.from_numpy(found[3]).to(keys.device).long()[..., None]
            log_sum = (logits.gather(-1, top) - weights.gather(-1, top).log())[..., 0]
            spread += (log_sum - weights.mul_(logits).sum(-1)).sum(-1)
        counts, slots, values = (np.concatenate([part[i] for part in parts]) for i in range(3))
        tops, beyond = (np.concatenate([part[i] for part in parts], axis=1) for i in (3, 4))
        self._edges.append((counts, slots, values))
        self._read.append(
            {
                "tops": tops,
                "tops_without_sink": beyond,
                "kept_mass": np.array(values.sum(dtype=float) / (n_query_heads * n)),
                "attention": sums.reshape(n_heads, -1, n).sum(1).float().cpu().numpy(),
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
