"""What the rows of a reply read of the context with the full cache: one pass over question and reply.

A head adds sum_j a_ij W v_j to row i of the residual stream (a: attention, v: values, W: the head's part of the output
projection). From these vectors and the row's own state follows what a reply row is given by every slot of the context:
its *flow*, over all routes, and its *attribution*, straight into the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.measure.routed import gram_of, squared_lengths, weights_after
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ReplyReads:
    """What the rows of a reply read with the full cache.

    Attributes
    ----------
    flow : float32[n_rows, n_layers, n_heads, n_context]
        Share of each reply row's mass that every slot of the context gives; its sum over slots is at most 1.
    attention : float32[n_rows, n_layers, n_query_heads, n_context]
        Attention of each reply row.
    added : float32[n_rows, n_layers, n_query_heads, n_context]
        What each slot adds to the row's margin, straight into the last state: attention times the value's part of
        the difference of the two largest logits.
    rest, rest_added : float32[n_rows, n_layers, n_query_heads]
        The attention on the rows after the context, and what they add.
    margins : float64[n_rows]
        Largest minus second largest logit of each row.
    kept : float32[n_layers, n_after]
        Share rho of its mass that each row after the context keeps in a layer, as it was measured or given.
    """

    flow: Floats
    attention: Floats
    added: Floats
    rest: Floats
    rest_added: Floats
    margins: NDArray[np.float64]
    kept: Floats


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer, of the rows after the context: T of them, H query heads, n + T keys."""

    weights: Any  # [H, T, n + T]
    held: Any  # [KV heads, n + T, d], as the cache has them
    module: Any
    state: Any  # [T]: lengths of the rows' states before attention
    mixed: Any  # [T]: lengths of what attention adds

    def values(self) -> Any:
        """Return the values that each query head reads, float32[H, n + T, d]: made for one layer at a time."""
        return self.held.float().repeat_interleave(len(self.weights) // len(self.held), dim=0)


def read_reply(
    model: Loaded,
    cache: Any,
    question: Ids,
    reply: Ids,
    kept: float | None = None,
    energy: bool = False,
) -> ReplyReads:
    """Run question and reply over a context's full cache, and return what the reply's rows read.

    Parameters
    ----------
    model : Loaded
    cache : cache
        Of the context, as `prefill.prefill` returns it; it is as before afterwards.
    question, reply : int64[...]
        Tokens after the context. The rows of the reply are those that its tokens are read from, so that the last
        token is not run.
    kept : float, optional
        Share of its mass that a row keeps in every layer; by default measured: the length of its state against
        that and the length of what attention adds.
    energy : bool
        Whether mass goes by squared lengths in place of lengths.

    Raises
    ------
    ValueError
        If question or reply has no tokens.
    """
    import torch

    n = int(cache.layers[0].keys.shape[2])
    network = model.model
    rows = slice(len(question) - 1, len(question) + len(reply) - 1)
    with torch.no_grad(), _recorded(network, n) as record:
        run_after(network.base_model, cache, question, reply)
        margins, towards = _pair(network, *(states[rows] for states in record.ends))
        flow, shares = _flow(record.layers, rows, n, model.n_heads, kept, energy)
        parts = [_attributed(layer, rows, towards) for layer in record.layers]
    attention, added = (np.stack([part[k] for part in parts], axis=1) for k in (0, 1))
    return ReplyReads(
        flow=flow,
        attention=attention[..., :n],
        added=added[..., :n],
        rest=attention[..., n:].sum(-1),
        rest_added=added[..., n:].sum(-1),
        margins=margins,
        kept=shares,
    )


def run_after(run: Any, cache: Any, question: Ids, reply: Ids, **more: Any) -> Any:
    """Run question and reply, but for its last token, over the cache of a context, which is put back afterwards.

    Parameters
    ----------
    run : transformers model
        Whole, or without its head.
    cache, question, reply
        As in `read_reply`, ValueError included.
    **more
        What else the model is given.
    """
    import torch

    if len(question) == 0 or len(reply) == 0:
        raise ValueError("question and reply need a token each")
    n = int(cache.layers[0].keys.shape[2])
    ids = np.concatenate([question, reply[:-1]])
    try:
        return run(
            torch.from_numpy(ids)[None].to(run.device),
            past_key_values=cache,
            position_ids=torch.arange(n, n + len(ids), device=run.device)[None],
            use_cache=True,
            **more,
        )
    finally:
        cache.crop(n)


class _Record:
    """What hooks keep of a pass: the layers, and the last states before and after their norm."""

    def __init__(self) -> None:
        self.layers: list[_Layer] = []
        self.ends: tuple[Any, Any] = (None, None)


@contextmanager
def _recorded(network: Any, n_context: int) -> Iterator[_Record]:
    """Keep what the rows after the context read in every layer of a pass."""
    record = _Record()
    states: list[Any] = []

    def before(_module: Any, args: Any, kwargs: Any) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        states.append(hidden[0].float().norm(dim=-1))

    def attended(module: Any, _args: Any, kwargs: Any, output: Any) -> None:
        layer = prefill.cached_layer(module, kwargs)
        weights = weights_after(module, kwargs, n_context)
        mixed = output[0][0].float().norm(dim=-1)
        record.layers.append(_Layer(weights, layer.values[0], module, states[-1], mixed))

    def normed(_module: Any, args: Any, output: Any) -> None:
        record.ends = args[0][0].float(), output[0].float()

    with ExitStack() as stack:
        stack.enter_context(network.base_model.norm.register_forward_hook(normed))
        for layer in network.base_model.layers:
            stack.enter_context(layer.register_forward_pre_hook(before, with_kwargs=True))
            stack.enter_context(layer.self_attn.register_forward_hook(attended, with_kwargs=True))
        yield record


def _pair(network: Any, state: Any, normed: Any) -> tuple[NDArray[np.float64], Any]:
    """Return how far the largest logit leads in each row, and along which change of the state the lead grows.

    The norm of the state is held fixed, so that the norm's gain is what it is for this state.
    """
    import torch

    head = network.get_output_embeddings()
    pair = head(normed.to(head.weight.dtype)).float().topk(2, dim=-1)
    apart = (head.weight[pair.indices[:, 0]] - head.weight[pair.indices[:, 1]]).float()
    gain = torch.where(state.abs() > 1e-12, normed / state, torch.zeros_like(state))
    margins = (pair.values[:, 0] - pair.values[:, 1]).double().cpu().numpy()
    return margins, apart * gain


def _flow(
    layers: list[_Layer], rows: slice, n: int, n_heads: int, kept: float | None, energy: bool
) -> tuple[Floats, Floats]:
    """Roll the mass of every reply row down from the top layer; see `ReplyReads.flow` and `ReplyReads.kept`."""
    import torch

    n_after = layers[0].weights.shape[1]
    mass = torch.eye(n_after)[rows].to(layers[0].weights.device)
    flow, shares = [], []
    for layer in reversed(layers):
        size = squared_lengths(layer.values(), gram_of(layer.module, len(layer.weights)))[:, None]
        given = layer.weights.square() * size if energy else layer.weights * size.sqrt()
        given = given / given.sum((0, 2), keepdim=True).clamp_min(1e-30)
        stays = layer.state / (layer.state + layer.mixed).clamp_min(1e-30)
        if kept is not None:
            stays = torch.full_like(stays, kept)
        passed = mass * (1 - stays)
        # The query heads of a group lie side by side and read the same slots.
        slots = given.unflatten(0, (n_heads, -1)).sum(1)  # [heads, T, n + T]
        flow.append(torch.einsum("rt,htj->rhj", passed, slots[..., :n]).cpu().numpy())
        shares.append(stays.cpu().numpy())
        mass = mass * stays + passed @ slots[..., n:].sum(0)
    return np.stack(flow[::-1], axis=1), np.stack(shares[::-1])


def _attributed(layer: _Layer, rows: slice, towards: Any) -> tuple[Floats, Floats]:
    """Return the attention of the reply rows, and what it adds along a direction a row, [n_rows, H, n + T] each."""
    import torch

    weights = layer.weights[:, rows]
    projection = layer.module.o_proj.weight.float()
    along = (towards @ projection).unflatten(-1, (len(weights), -1))  # [rows, H, d]
    values = torch.einsum("rhd,hjd->rhj", along, layer.values())
    attention = weights.transpose(0, 1)
    return attention.cpu().numpy(), (attention * values).cpu().numpy()
