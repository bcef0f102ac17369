"""What the rows after a context read of it with a full cache, and what of that an eviction takes away.

All of it comes from one prefill of context and question; nothing is decoded. `Routed` is the predictor that is told
neither the answer nor where it stands: how far the outputs of the heads would move, at the rows that the first answer
token is routed through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph.graph import TokenGraph
from routegraph.validate.models.attention import attention_logits, attention_of
from routegraph.validate.models.families import rotated_queries
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill
from routegraph.validate.traces.read_graph import GraphRecorder

if TYPE_CHECKING:
    from torch import Tensor

#: Share of its mass that a row keeps for itself in each layer as it is rolled down: the residual stream.
RESIDUAL = 0.5


@dataclass(frozen=True, eq=False)
class Reads:
    """What the rows after the context read of it with a full cache.

    Attributes
    ----------
    graph : TokenGraph
        Of context and question together; the context's rows are its cache rows.
    mass : float64[n_layers, n_heads, n_context]
        Attention on each slot, mean over the rows after the context and the query heads of all KV heads, so that a
        layer's sums to at most 1.
    last : float32[n_layers, n_query_heads, n_context]
        Attention of the last row, the one that the first answer token is read from.
    """

    graph: TokenGraph
    mass: NDArray[np.float64]
    last: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Routed:
    """What evictions take from the routes of a question, told from the full cache alone.

    A head adds sum_j a_ij W v_j to row i of the residual stream (a: attention, v: values, W: the head's part of the
    output projection). Rows are weighted by the share of the last row's state that is routed through them: rolled
    down from the top layer, half of it stays, half goes where the lengths |a_ij W v_j| point (attention rollout with
    the norms of Kobayashi et al. 2020 in place of bare attention, so that sinks, whose values are short, weigh little).

    Attributes
    ----------
    drift : float64[n_variants]
        Squared change of the heads' outputs when dead slots are masked and the rest renormalised, relative to
        their squared length, mean over the weighted rows of all layers. 0: nothing that is read is gone.
    lost : float64[n_variants]
        Share of the weighted sum of |a_ij W v_j|^2 over the context that lies on dead slots, in [0, 1].
    """

    drift: NDArray[np.float64]
    lost: NDArray[np.float64]


class ReadRecorder:
    """Collects what the rows after the context read as context and question are prefilled together."""

    def __init__(self, n_context: int) -> None:
        self.n_context = n_context
        self._mass: list[NDArray[np.float64]] = []
        self._last: list[NDArray[np.float32]] = []

    def layer(self, module: Any, kwargs: Mapping[str, Any], weights: Tensor) -> None:
        """Record one layer, of which the rows after the context read float32[n_query_heads, n_rows, n_keys]."""
        n = self.n_context
        n_query_heads, n_rows = weights.shape[:2]
        read = weights[..., :n].cpu().numpy()
        n_heads = kwargs["past_key_values"].layers[module.layer_idx].keys.shape[1]
        by_head = read.reshape(n_heads, -1, n).sum(axis=1, dtype=float)
        self._mass.append(by_head / (n_query_heads * n_rows))
        self._last.append(read[:, -1])

    def reads(self, graph: TokenGraph) -> Reads:
        """Return the record beside the graph of the same prefill, whose cache rows become the context's."""
        split = replace(graph, n_context=self.n_context)
        return Reads(split, np.stack(self._mass), np.stack(self._last))


class RoutedRecorder:
    """Works out, layer by layer of one prefill, what each of some evictions takes away.

    Parameters
    ----------
    kept : bool[n_variants, n_layers, n_heads, n_context]
        Surviving slots of the context.
    """

    def __init__(self, kept: NDArray[np.bool_]) -> None:
        self.kept = kept
        self._layers: list[tuple[NDArray[np.float64], ...]] = []

    def layer(self, module: Any, kwargs: Mapping[str, Any], weights: Tensor) -> None:
        """Record one layer, of which the rows after the context read float32[n_query_heads, n_rows, n_keys]."""
        import torch

        n = self.kept.shape[-1]
        values = kwargs["past_key_values"].layers[module.layer_idx].values[0].float()
        group = len(weights) // len(values)
        values = values.repeat_interleave(group, dim=0)
        gram = gram_of(module, len(weights))
        length = squared_lengths(values, gram)[:, None]  # |W v_j|^2, [n_query_heads, 1, n]
        shares = (weights * length.sqrt()).sum(0)
        energy = weights.square() * length
        output = weights @ values
        size = squared_lengths(output, gram).sum(0)
        alive = torch.from_numpy(self.kept[:, module.layer_idx]).to(weights.device)
        alive = alive.repeat_interleave(group, dim=1)[:, :, None]
        moved, lost = [], []
        for kept in alive:
            left = torch.cat([weights[..., :n] * kept, weights[..., n:]], dim=-1)
            change = left @ values / left.sum(-1, keepdim=True).clamp_min(1e-30) - output
            moved.append(squared_lengths(change, gram).sum(0) / size.clamp_min(1e-30))
            lost.append((energy[..., :n] * ~kept).sum((0, 2)))
        found = (shares / shares.sum(-1, keepdim=True), torch.stack(moved), torch.stack(lost))
        whole = energy[..., :n].sum((0, 2))
        self._layers.append(tuple(table.double().cpu().numpy() for table in (*found, whole)))

    def routed(self) -> Routed:
        """Return what was worked out, rows weighted from the top layer down."""
        n = self.kept.shape[-1]
        row = np.zeros(len(self._layers[-1][3]))
        row[-1] = 1.0
        drift = lost = np.zeros(len(self.kept))
        rows = whole = 0.0
        for shares, moved, gone, energy in reversed(self._layers):
            drift, lost = drift + moved @ row, lost + gone @ row
            rows, whole = rows + float(row.sum()), whole + float(energy @ row)
            row = RESIDUAL * row + (1 - RESIDUAL) * (row @ shares[:, n:])
        return Routed(drift / rows, lost / whole if whole > 0 else lost)


def read_question(
    model: Loaded, context: NDArray[np.int64], question: NDArray[np.int64], kept: NDArray[np.bool_]
) -> tuple[Reads, Routed]:
    """Prefill context and question together; return what is read of the context and what evictions take of it.

    Parameters
    ----------
    model : Loaded
    context, question : int64[...]
        Tokens; the cache is evicted after the first.
    kept : bool[n_variants, n_layers, n_heads, n_context]
        Surviving slots of the context.
    """
    import torch

    ids = np.concatenate([context, question])
    graph, reads, routed = GraphRecorder(), ReadRecorder(len(context)), RoutedRecorder(kept)

    def record(module: Any, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        graph.hook(module, args, kwargs, output)
        weights = weights_after(module, kwargs, len(context))
        for recorder in (reads, routed):
            recorder.layer(module, kwargs, weights)

    prefill.prefill_tables(model.model, torch.from_numpy(ids)[None], {}, also=record)
    return reads.reads(graph.graph(model.n_heads, len(ids))), routed.routed()


def weights_after(module: Any, kwargs: Mapping[str, Any], n_context: int) -> Tensor:
    """Return what the rows after the context read, float32[n_query_heads, n_rows, n_keys].

    The context may have been run with them, or be in the cache already.
    """
    keys = kwargs["past_key_values"].layers[module.layer_idx].keys[0]
    queries = rotated_queries(module, kwargs)[:, n_context - keys.shape[1] :]
    weights: Tensor = attention_logits(queries, keys, attention_of(module), n_context).softmax(-1)
    return weights


def gram_of(module: Any, n_query_heads: int) -> Tensor:
    """Return W^T W of each head's part W of the output projection, float32[n_query_heads, head_dim, head_dim]."""
    parts = module.o_proj.weight.float()
    parts = parts.reshape(len(parts), n_query_heads, -1).transpose(0, 1)
    return parts.transpose(1, 2) @ parts


def squared_lengths(vectors: Tensor, gram: Tensor) -> Tensor:
    """Return |W x|^2 of vectors [n_query_heads, n, head_dim], head by head: float32[n_query_heads, n]."""
    return ((vectors @ gram) * vectors).sum(-1).clamp_min(0)
