"""Policies: ``(scores[L, H, n], *, n_context, **parameters) -> Survival``, registered with `@policy`.

A policy sees the scores of every cache row (higher: more worth keeping) and says at which level each dies.
Put a new one in a file of its own and import it here.
"""

from routegraph.policies import adakv, chunk, random, streaming, topk
from routegraph.policies.base import apply, eviction_order, policies, policy

__all__ = ["adakv", "apply", "chunk", "eviction_order", "policies", "policy", "random", "streaming", "topk"]
