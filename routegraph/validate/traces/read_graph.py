"""What the heads of a real prefill read, block by block of queries: never an n x n x heads tensor.

The model attends as it always does, and the products of queries and keys are worked out again. In a long context that
takes longer than all the rest, so that there, on a CPU in float32, a block's logits serve both, the attention of the
model itself and the graph; what the model reads then differs by rounding. On a GPU its kernels keep the logits to
themselves, and in bfloat16 they are rounded otherwise than ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.graph import TokenGraph
from routegraph.kernels.heaviest import edges_by_query, read_heads
from routegraph.kernels.threads import parts_of
from routegraph.validate.models import blocks
from routegraph.validate.models.attention import (
    Attention,
    Scratch,
    attending,
    attention_of,
    end_of_keys,
    logits_of_all,
    suits_kernels,
)
from routegraph.validate.models.families import rotated_queries

Weights = NDArray[np.float32]

#: Keys kept of every query row: the heaviest TOP, and every one of weight MASS or more.
TOP, MASS = 16, 0.01
#: Keys that a row can have at most.
_MOST = TOP + int(1 / MASS) + 1
#: Queries whose logits are made at a time.
ROWS = 64

_ATTENTION = "routegraph_read"


@dataclass(frozen=True, eq=False)
class _Found:
    """What the kernel finds in a block of queries of all heads; see `read_heads`."""

    counts: NDArray[np.int64]
    tops: NDArray[np.int32]
    scales: Weights

    @classmethod
    def of(cls, n_query_heads: int, n_queries: int) -> _Found:
        shape = n_query_heads, n_queries
        return cls(np.empty(shape, np.int64), np.empty((2, *shape), np.int32), np.empty(shape, np.float32))


@dataclass(frozen=True, eq=False)
class _Layer:
    """What is summed over a layer, and memory for the keys that one block of its queries keeps; see `read_heads`."""

    sums: NDArray[np.float64]
    entropy: NDArray[np.float64]
    keys: NDArray[np.int32]
    values: Weights
    window: int
    n_sink: int

    @classmethod
    def of(cls, n_query_heads: int, n: int, window: int, n_sink: int) -> _Layer:
        shape = n_query_heads, min(ROWS, n), _MOST
        sums, entropy = np.zeros((n_query_heads, n)), np.zeros(n_query_heads)
        return cls(sums, entropy, np.empty(shape, np.int32), np.empty(shape, np.float32), window, n_sink)

    def read(self, logits: Weights, heads: slice, start: int, found: _Found, share: tuple[int, int]) -> None:
        """Read the logits of some `heads`, of which this thread takes its `share`; they become weights."""
        read_heads(
            logits,
            share,
            start,
            self.window,
            TOP,
            np.float32(MASS),
            self.n_sink,
            self.sums[heads],
            self.entropy[heads],
            found.counts[heads],
            self.keys[heads],
            self.values[heads],
            found.tops[0, heads],
            found.tops[1, heads],
            found.scales[heads],
        )


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

    @contextmanager
    def attending(self, network: Any, n: int) -> Iterator[None]:
        """Let a model attend to a context of `n` tokens by the logits that the graph is read off, where that pays.

        It does beyond `blocks.ROWS` tokens, on a CPU, in float32; what is not attended to here, `hook` reads.
        """
        if n <= blocks.ROWS or not suits_kernels(network):
            yield
            return
        with attending(network, _ATTENTION, self._attend):
            yield

    def _attend(
        self, module: Any, query: Any, key: Any, value: Any, _mask: Any, **_: Any
    ) -> tuple[Any, None]:
        """Attend from one context's queries [1, n_query_heads, n, head_dim] to all that each sees, and record it."""
        read = self._record(query[0], key[0].contiguous(), attention_of(module), value[0].contiguous())
        return read.transpose(0, 1)[None], None

    def hook(self, module: Any, _args: Any, kwargs: Mapping[str, Any], _output: Any) -> None:
        """Record one layer, if its attention was not worked out here; a forward hook with keyword arguments."""
        if module.config._attn_implementation != _ATTENTION:
            kept = kwargs["past_key_values"].layers[module.layer_idx].keys[0]
            self._record(rotated_queries(module, kwargs), kept, attention_of(module))

    def _record(self, queries: Any, kept: Any, attention: Attention, values: Any = None) -> Any:
        """Record what the queries [n_query_heads, n, head_dim] of a layer read of its keys [n_heads, n, head_dim].

        Returns what is read of `values`, of the queries' shape; None if there are none.
        """
        import torch

        n_query_heads, n = queries.shape[:2]
        group, threads = n_query_heads // len(kept), torch.get_num_threads()
        in_float32 = queries.dtype == torch.float32
        if in_float32 and attention.softcap is None:  # scaled once, in place of every product
            queries, attention = queries * attention.scaling, replace(attention, scaling=1.0)
        layer = _Layer.of(n_query_heads, n, attention.window, self.n_sink)
        scratch = Scratch.of(queries[: threads * group], min(ROWS, n), n)
        parts, read = [], None if values is None else torch.empty_like(queries)
        with ThreadPoolExecutor(threads) as pool:
            run = pool.map if threads > 1 else map  # another thread for the kernel costs the caches
            for start in range(0, n, ROWS):
                stop = min(start + ROWS, n)
                end = stop if in_float32 else end_of_keys(stop, n)
                found = _Found.of(n_query_heads, stop - start)
                # A few heads at a time, so that their logits stay in the caches.
                for first in range(0, len(kept), threads):
                    some = slice(first, first + threads)
                    heads = slice(first * group, (first + threads) * group)
                    asked = queries[heads, start:stop]
                    weights = logits_of_all(asked, kept[some, :end], attention, scratch).cpu().numpy()
                    share = partial(layer.read, weights, heads, start, found)
                    list(run(share, parts_of(len(weights), threads)))
                    if read is not None:
                        grouped = torch.from_numpy(weights).view(-1, group * (stop - start), end)
                        mixed = (grouped @ values[some, :end]).view(asked.shape)
                        scales = torch.from_numpy(found.scales[heads, :, None])
                        torch.mul(mixed, scales, out=read[heads, start:stop])
                parts.append((*edges_by_query(found.counts, layer.keys, layer.values, group), found.tops))
        edges, slots, weights = (np.concatenate([part[i] for part in parts]) for i in range(3))
        tops, beyond = np.concatenate([part[3] for part in parts], axis=2)
        sums = layer.sums
        self._edges.append((edges, slots, weights))
        self._read.append(
            {
                "tops": tops,
                "tops_without_sink": beyond,
                "kept_mass": np.array(weights.sum(dtype=float) / (n_query_heads * n)),
                "attention": sums.reshape(len(kept), -1, n).sum(1).astype(np.float32),
                "sink_mass": (sums[:, : self.n_sink].sum(1) / n).astype(np.float32),
                "entropy": (layer.entropy / n).astype(np.float32),
            }
        )
        return read

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
