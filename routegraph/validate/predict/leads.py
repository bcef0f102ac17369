"""What every slot of the context gives to the lead of every token of a reply, to first order.

The lead of a token is its logit minus the largest other one, along the model's own reply with the full cache. Taking a
little away from the weight that all rows after the context give to a slot, the rest renormalised, changes the lead by
a derivative: the slot's part. It counts every way there is: straight into the logits, through later rows and layers,
through MLPs. One backward pass a token gives the parts of all slots; that they add up is the approximation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.models.load import Loaded
from routegraph.validate.predict.gates import gated_logits, gates_of

Ids = NDArray[np.int64]


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

    gates = gates_of(model.model, cache)
    with torch.enable_grad():
        logits = gated_logits(model.model, cache, question, reply, gates)
        own = torch.from_numpy(reply).to(logits.device)[:, None]
        others = logits.scatter(1, own, -torch.inf).amax(dim=1)
        leads = logits.gather(1, own)[:, 0] - others
        parts = [
            torch.autograd.grad(lead, gates, retain_graph=True)[0].float().cpu().numpy() for lead in leads
        ]
    return Leads(leads.detach().double().cpu().numpy(), np.stack(parts))
