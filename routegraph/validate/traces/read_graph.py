"""What the heads of a real prefill read, by recomputing q.k in blocks: never an n x n x heads tensor."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.graph import TokenGraph
from routegraph.kernels.heaviest import edges_by_query, read_heads
from routegraph.kernels.threads import parts_of
from routegraph.validate.models.attention import Scratch, attention_of, end_of_keys, logits_of_all
from routegraph.validate.models.families import rotated_queries

Weights = NDArray[np.float32]

#: Keys kept of every query row: the heaviest TOP, and every one of weight MASS or more.
TOP, MASS = 16, 0.01
#: Keys that a row can have at most.
_MOST = TOP + int(1 / MASS) + 1
#: Queries whose logits are made at a time: few enough that those of a head stay in the second cache.
ROWS = 32


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

        kept = kwargs["past_key_values"].layers[module.layer_idx].keys[0]
        queries, attention = rotated_queries(module, kwargs), attention_of(module)
        n_query_heads, n = queries.shape[:2]
        group, threads = n_query_heads // len(kept), torch.get_num_threads()
        sums, spread = np.zeros((n_query_heads, n)), np.zeros(n_query_heads)
        rows = min(ROWS, n)
        scratch = Scratch.of(queries, rows, n)
        keys = np.empty((n_query_heads, rows, _MOST), np.int32)
        values = np.empty(keys.shape, np.float32)
        parts = []
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, n, rows):
                block, seen = queries[:, start : start + rows], kept[:, : end_of_keys(start + rows, n)]
                logits = logits_of_all(block, seen, attention, scratch).cpu().numpy()
                place = sums, spread, keys, values
                parts.append(self._read_block(logits, start, attention.window, group, place, pool, threads))
        edges, slots, weights = (np.concatenate([part[i] for part in parts]) for i in range(3))
        tops, beyond = np.concatenate([part[3] for part in parts], axis=2)
        self._edges.append((edges, slots, weights))
        self._read.append(
            {
                "tops": tops,
                "tops_without_sink": beyond,
                "kept_mass": np.array(weights.sum(dtype=float) / (n_query_heads * n)),
                "attention": sums.reshape(len(kept), -1, n).sum(1).astype(np.float32),
                "sink_mass": (sums[:, : self.n_sink].sum(1) / n).astype(np.float32),
                "entropy": (spread / n).astype(np.float32),
            }
        )

    def _read_block(
        self,
        logits: Weights,
        start: int,
        window: int,
        group: int,
        place: tuple[NDArray[Any], ...],
        pool: ThreadPoolExecutor,
        threads: int,
    ) -> tuple[Any, ...]:
        """Return (edges of each query, slots, weights, (tops, beyond)) of a block; threads share out the heads."""
        sums, spread, keys, values = place
        shape = logits.shape[:2]
        counts, tops = np.empty(shape, np.int64), np.empty((2, *shape), np.int32)

        def read(heads: tuple[int, int]) -> None:
            into = sums, spread, counts, keys, values, *tops
            read_heads(logits, heads, start, window, TOP, MASS, self.n_sink, *into)

        list(pool.map(read, parts_of(shape[0], threads)))
        return (*edges_by_query(counts, keys, values, group), tops)

    def graph(self, n_heads: int, n_tokens: int) -> TokenGraph:
        """Return the recorded edges as a graph; every position is a cache row.

        The layers are given away as they are put together: of a long context they are gigabytes, held once.
        """
        counts = [layer[0] for layer in self._edges]
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        slot, weight = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
        end = len(slot)
        while self._edges:
            _, slots, weights = self._edges.pop()
            slot[end - len(slots) : end], weight[end - len(slots) : end] = slots, weights
            end -= len(slots)
        return TokenGraph(len(counts), n_heads, n_tokens, n_tokens, True, indptr, slot, weight)

    def recorded(self, n_heads: int, n_tokens: int) -> dict[str, Any]:
        """Return the graph and the further arrays of a `Trace` by name."""
        read = {name: np.stack([layer[name] for layer in self._read]) for name in self._read[0]}
        return {"graph": self.graph(n_heads, n_tokens), **read}
