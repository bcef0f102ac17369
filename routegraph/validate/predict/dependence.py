"""On which slots of the context a reply depends, read at its own critical point.

Let the weight that all rows after the context give to its slots be multiplied by exp(-s), the first rows apart, and
the rest renormalised: at s = 0 that is the full cache, far along it an empty one. Where the reply has become half as
likely it is on the edge, and there the derivative of its log-likelihood by the logarithm of each slot's weight tells
what it stands on. At s = 0 the derivative is blind wherever an attention is saturated: a head that gives all its weight
to one slot gives it all still when that is a little less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.models.load import Loaded
from routegraph.validate.predict.gates import gated_logits, gates_of

Ids = NDArray[np.int64]

#: Steps of s that are tried, until the reply is half as likely.
STEPS = (1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 11.0, 16.0)
#: The critical point: by so much the log-likelihood has fallen, to one half of the likelihood.
FALL = float(np.log(2))
#: First rows of a context that keep their weight: what is not read elsewhere must lie somewhere (attention sinks).
SINKS = 4


@dataclass(frozen=True, eq=False)
class Dependence:
    """What a reply depends on at its critical point.

    Attributes
    ----------
    step : float
        The first of `STEPS` at which the reply is at most half as likely as with the full cache; the last where none
        is, and the reply does not need the context.
    fall : float
        By how much the logarithm of its likelihood has fallen there.
    parts : float32[n_layers, n_heads, n_context]
        Derivative of that logarithm by the logarithm of each slot's weight, at `step`; 0 for the first rows.
    """

    step: float
    fall: float
    parts: NDArray[np.float32]

    @property
    def critical(self) -> bool:
        """Whether there is such a point."""
        return self.fall >= FALL


def read_dependence(model: Loaded, cache: Any, question: Ids, reply: Ids) -> Dependence:
    """Find the critical point of a reply, and what it depends on there: a few passes forward and one back.

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
    tokens = torch.from_numpy(reply).to(network.device)[:, None]

    def likelihood(gates: Any) -> Any:
        logits = gated_logits(network, cache, question, reply, gates)
        return logits.log_softmax(-1).gather(1, tokens).sum()

    with torch.no_grad():
        full = likelihood(gates_of(network, cache))
        for step in STEPS:
            fall = float(full - likelihood(gates_of(network, cache, -step, SINKS)))
            if fall >= FALL:
                break
    gates = gates_of(network, cache, -step, SINKS)
    with torch.enable_grad():
        (parts,) = torch.autograd.grad(likelihood(gates), gates)
    parts[..., :SINKS] = 0
    return Dependence(step, fall, parts.float().cpu().numpy())
