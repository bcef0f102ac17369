"""Policies of decoding: ``(slot, **parameters) -> int[n_rows]``, registered with `@decoding_policy`.

A policy says at which step every row of one slot dies. Put a new one in a file of its own and import it here.
"""

from routegraph.sim.decoding.policies import h2o, random, scope, streaming, tova, treekv
from routegraph.sim.decoding.policies.base import (
    deaths,
    decoding_policies,
    decoding_policy,
    is_apart,
    resolved,
    theory_of,
)

__all__ = [
    "deaths",
    "decoding_policies",
    "decoding_policy",
    "h2o",
    "is_apart",
    "random",
    "resolved",
    "scope",
    "streaming",
    "theory_of",
    "tova",
    "treekv",
]
