"""What every slot of the context gives to the lead of every token of a reply, to first order.

The lead of a token is its logit minus the largest other one, along the model's own reply with the full cache. Taking a
little away from the weight that all rows after the context give to a slot, the rest renormalised, changes the lead by
a derivative: the slot's part. It counts every way there is: straight into the logits, through later rows and layers,
through MLPs. One backward pass a token gives the parts of all slots; that they add up is the approximation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.models.attention import attending, attention_of
from routegraph.validate.models.load import Loaded
from routegraph.validate.predict.reads import run_after
from routegraph.validate.presses import prefill

Ids = NDArray[np.int64]

_ATTENTION = "routegraph_gated"


@dataclass(frozen=True, eq=False)
class Leads:
    """What the tokens of a reply owe to the slots.

    Attributes
    ----------
    leads : float64[n_reply]
        Logit of each token minus the largest other.
    parts : float32[n_reply, n_layers, n_heads, n_context]
        Derivative of each lead by the logarithm of the weight of each slot.
    """

    leads: NDArray[np.float64]
    parts: NDArray[np.float32]

    def left(self, alive: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the leads without the parts of dead slots, float64[n_reply]; `alive`: bool[layers, heads, rows]."""
        return np.asarray(self.leads - np.einsum("rlhj,lhj->r", self.parts, ~alive, dtype=float))


def read_leads(model: Loaded, cache: Any, question: Ids, reply: Ids) -> Leads:
    """Run question and reply over a context's full cache, and back once for every token of the reply.

    Parameters
    ----------
    model : Loaded
    cache : cache
        Of the context, as `prefill.prefill` returns it; it is as before afterwards.
    question, reply : int64[...]
        Tokens after the context.

    Raises
    ------
    ValueError
        If question or reply has no tokens.
    """
    import torch

    network = model.model
    shape = (model.n_layers, model.n_heads, int(cache.layers[0].keys.shape[2]))
    gates = torch.zeros(shape, device=network.device, requires_grad=True)
    with torch.enable_grad(), _gated(network, gates):
        logits = run_after(network, cache, question, reply, logits_to_keep=len(reply)).logits[0]
        own = torch.from_numpy(reply).to(logits.device)[:, None]
        others = logits.scatter(1, own, -torch.inf).amax(dim=1)
        leads = logits.gather(1, own)[:, 0].float() - others.float()
        parts = [
            torch.autograd.grad(lead, gates, retain_graph=True)[0].float().cpu().numpy() for lead in leads
        ]
    return Leads(leads.detach().double().cpu().numpy(), np.stack(parts))


@contextmanager
def _gated(network: Any, gates: Any) -> Iterator[None]:
    """Let the rows after a context attend with `gates` added to the logits of its slots."""
    import torch

    known = [attention_of(module) for module in prefill.attention_modules(network)]
    n = gates.shape[2]

    def attention(
        module: Any, query: Any, key: Any, value: Any, _mask: Any, scaling: float, **_more: Any
    ) -> tuple[Any, None]:
        its = known[module.layer_idx]
        n_heads, n_keys, width = key.shape[1:]
        n_rows = query.shape[2]
        grouped = query[0].reshape(n_heads, -1, width)  # the query heads of a group lie side by side
        logits = (grouped @ key[0].transpose(1, 2)).float().unflatten(1, (-1, n_rows)) * its.scaling
        if its.softcap is not None:
            logits = its.softcap * torch.tanh(logits / its.softcap)
        gate = torch.nn.functional.pad(gates[module.layer_idx], (0, n_keys - n))
        position = torch.arange(n_keys, device=key.device)
        unseen = its.hidden(position[-n_rows:], position)
        logits = (logits + gate[:, None, None]).masked_fill(unseen, torch.finfo(torch.float32).min)
        weights = logits.softmax(-1).to(value.dtype)
        read = weights.flatten(1, 2) @ value[0]
        return read.reshape(1, -1, n_rows, width).transpose(1, 2).contiguous(), None

    with attending(network, _ATTENTION, attention):
        yield
