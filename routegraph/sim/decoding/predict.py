"""What theory says of a simulation of decoding, where it says anything: for policies that a theory knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routegraph.sim.decoding.parameters import Decoding
from routegraph.sim.decoding.policies import resolved, theory_of
from routegraph.theory import decoding as theory

Curve = NDArray[np.float64]

#: Curves over steps that theory has an answer to.
KNOWN = ("ger", "ger_layer", "dead", "held")


def predict(parameters: Decoding, name: str, at: Sequence[int]) -> Curve | None:
    """Return a curve of a result at some steps (of `survival`: at some ages), float64[n]; None: no theory applies."""
    p, where = parameters, np.asarray(at)
    known = theory_of(p.policy)
    if known is None or name not in (*KNOWN, "survival"):
        return None
    if known == "recent":
        sinks = {**resolved(p.policy)[1], **dict(p.policy_parameters)}["n_sink"]
        if name == "survival":
            return theory.streaming_by_age(p.steps, where, p.budget, p.interval, sinks, p.n_prefill)
        if name == "held":
            cut = where // p.interval * p.interval
            return p.n_prefill + where - np.where(cut > 0, np.maximum(0, p.n_prefill + cut - p.budget), 0.0)
        return theory.streaming_gone(p.n_prefill, where, p.budget, p.interval, sinks)
    chance = theory.log_survival(p.n_prefill, p.steps, p.budget, p.interval)
    if name == "survival":
        return theory.survival_by_age(chance, where)
    if name == "held":
        return np.array([theory.expected_held(chance, p.n_prefill, p.slots, int(step)) for step in where])
    slots = {"ger": p.slots, "ger_layer": p.n_heads, "dead": 1}[name]
    return theory.gone_from_all(chance[where], slots)
