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
class Flow:
    """What the context gives to the rows of a reply with the full cache.

    Attributes
    ----------
    flow : float32[n_rows, n_layers, n_heads, n_context]
        Share of each reply row's mass that every slot of the context gives; its sum over slots is at most 1.
    read : float32[n_layers, n_heads, n_context]
        Attention to every slot, summed over the reply's rows and the query heads of its group.
    kept : float32[n_layers, n_after]
        Share rho of its mass that each row after the context keeps in a layer, as it was measured or given.
    """

    flow: Floats
    read: Floats
    kept: Floats


@dataclass(frozen=True, eq=False)
class ReplyReads(Flow):
    """What the rows of a reply read with the full cache, row by row and query head by query head.

    Attributes
    ----------
    attention : float32[n_rows, n_layers, n_query_heads, n_context]
        Attention of each reply row.
    added : float32[n_rows, n_layers, n_query_heads, n_context]
        What each slot adds to the row's margin, straight into the last state: attention times the value's part of
        the difference of the two largest logits.
    rest, rest_added : float32[n_rows, n_layers, n_query_heads]
        The attention on the rows after the context, and what they add.
    margins : float64[n_rows]
        Largest minus second largest logit of each row.
    """

    attention: Floats
    added: Floats
    rest: Floats
    rest_added: Floats
    margins: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer, of the rows after the context: T of them, H query heads, n + T keys."""

    slots: Any  # [KV heads, T, n + T]: share of each row's given mass that comes from every slot
    kept: Any  # [T]: share of its mass that each row keeps
    attention: Any  # [H, reply rows, n + T]
    held: Any  # [KV heads, n + T, d]: values, as the cache has them
    module: Any


def read_flow(
    model: Loaded, cache: Any, question: Ids, reply: Ids, kept: float | None = None, energy: bool = False
) -> Flow:
    """Run question and reply over a context's full cache, and return what the context gives to the reply's rows.

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
    record, n = _run(model, cache, question, reply, kept, energy)
    return Flow(**_rolled(record.layers, n))


def read_reply(
    model: Loaded, cache: Any, question: Ids, reply: Ids, kept: float | None = None, energy: bool = False
) -> ReplyReads:
    """Run question and reply over a context's full cache, and return all that the reply's rows read.

    Parameters, and ValueError, are those of `read_flow`. Of a long context it is large: of every row and query head
    as much as of all slots.
    """
    import torch

    record, n = _run(model, cache, question, reply, kept, energy)
    with torch.no_grad():
        margins, towards = _pair(model.model, *(states[-len(reply) :] for states in record.ends))
        parts = [_attributed(layer, towards) for layer in record.layers]
    attention, added = (np.stack([part[k] for part in parts], axis=1) for k in (0, 1))
    return ReplyReads(
        **_rolled(record.layers, n),
        attention=attention[..., :n],
        added=added[..., :n],
        rest=attention[..., n:].sum(-1),
        rest_added=added[..., n:].sum(-1),
        margins=margins,
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


def _run(
    model: Loaded, cache: Any, question: Ids, reply: Ids, kept: float | None, energy: bool
) -> tuple[_Record, int]:
    """Run question and reply over a cache; return what hooks kept of it, and how many rows the context has."""
    import torch

    n = int(cache.layers[0].keys.shape[2])
    with torch.no_grad(), _recorded(model.model, n, len(reply), kept, energy) as record:
        run_after(model.model.base_model, cache, question, reply)
    return record, n


@contextmanager
def _recorded(
    network: Any, n_context: int, n_rows: int, kept: float | None, energy: bool
) -> Iterator[_Record]:
    """Keep what the rows after the context read in every layer of a pass, of the last `n_rows` row by row.

    What all rows read, query head by query head, is many times what is kept: it is there for one layer at a time.
    """
    import torch

    record = _Record()
    states: list[Any] = []

    def before(_module: Any, args: Any, kwargs: Any) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        states.append(hidden[0].float().norm(dim=-1))

    def attended(module: Any, _args: Any, kwargs: Any, output: Any) -> None:
        held = prefill.cached_layer(module, kwargs).values[0]
        weights = weights_after(module, kwargs, n_context)
        size = squared_lengths(_values(held, len(weights)), gram_of(module, len(weights)))[:, None]
        given = weights.square() * size if energy else weights * size.sqrt()
        given /= given.sum((0, 2), keepdim=True).clamp_min(1e-30)
        # The query heads of a group lie side by side and read the same slots.
        slots = given.unflatten(0, (len(held), -1)).sum(1)
        state, mixed = states.pop(), output[0][0].float().norm(dim=-1)
        measured = state / (state + mixed).clamp_min(1e-30)
        stays = measured if kept is None else torch.full_like(measured, kept)
        record.layers.append(_Layer(slots, stays, weights[:, -n_rows:].clone(), held, module))

    def normed(_module: Any, args: Any, output: Any) -> None:
        record.ends = args[0][0].float(), output[0].float()

    with ExitStack() as stack:
        stack.enter_context(network.base_model.norm.register_forward_hook(normed))
        for layer in network.base_model.layers:
            stack.enter_context(layer.register_forward_pre_hook(before, with_kwargs=True))
            stack.enter_context(layer.self_attn.register_forward_hook(attended, with_kwargs=True))
        yield record


def _values(held: Any, n_query_heads: int) -> Any:
    """Return the values that each query head reads, float32[n_query_heads, n + T, d]: made for a layer at a time."""
    return held.float().repeat_interleave(n_query_heads // len(held), dim=0)


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


def _rolled(layers: list[_Layer], n: int) -> dict[str, Floats]:
    """Roll the mass of every reply row down from the top layer; return the fields of `Flow`."""
    import torch

    n_heads, n_after = layers[0].slots.shape[:2]
    mass = torch.eye(n_after)[-layers[0].attention.shape[1] :].to(layers[0].slots.device)
    flow, read = [], []
    for layer in reversed(layers):
        passed = mass * (1 - layer.kept)
        flow.append(torch.einsum("rt,htj->rhj", passed, layer.slots[..., :n]).cpu().numpy())
        attention = layer.attention[..., :n].sum(1).unflatten(0, (n_heads, -1))
        read.append(attention.sum(1).cpu().numpy())
        mass = mass * layer.kept + passed @ layer.slots[..., n:].sum(0)
    kept = [layer.kept.cpu().numpy() for layer in layers]
    return {"flow": np.stack(flow[::-1], axis=1), "read": np.stack(read[::-1]), "kept": np.stack(kept)}


def _attributed(layer: _Layer, towards: Any) -> tuple[Floats, Floats]:
    """Return the attention of the reply rows, and what it adds along a direction a row, [n_rows, H, n + T] each."""
    import torch

    projection = layer.module.o_proj.weight.float()
    along = (towards @ projection).unflatten(-1, (len(layer.attention), -1))  # [rows, H, d]
    values = torch.einsum("rhd,hjd->rhj", along, _values(layer.held, len(layer.attention)))
    attention = layer.attention.transpose(0, 1)
    return attention.cpu().numpy(), (attention * values).cpu().numpy()
