"""Policies: ``(scores[L, H, n], *, n_context, **parameters) -> Survival``, registered with `@policy`.

A policy sees the scores of every cache row (higher: more worth keeping) and says at which level each dies.
Put a new one in a file of its own and import it here.
"""

from routegraph.policies import adakv, bernoulli, chunk, chunkkv, pyramid, random, snapkv, streaming, topk
from routegraph.policies.base import (
    apply,
    declared,
    eviction_order,
    is_nested,
    is_seeded,
    policies,
    policy,
    protection,
)

__all__ = [
    "adakv",
    "apply",
    "bernoulli",
    "chunk",
    "chunkkv",
    "declared",
    "eviction_order",
    "is_nested",
    "is_seeded",
    "policies",
    "policy",
    "protection",
    "pyramid",
    "random",
    "snapkv",
    "streaming",
    "topk",
]
