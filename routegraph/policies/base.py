"""The policy registry and what all policies share."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.registry import Registry
from routegraph.survival import Survival

#: Registry of eviction policies; `policy` is its decorator.
policies = policy = Registry("policy")


def check_scores(scores: ArrayLike, n_context: int) -> NDArray[Any]:
    """Return scores as an array [layers, heads, n_context]; ValueError unless finite and of that shape."""
    array = np.asarray(scores)
    if array.ndim != 3 or array.shape[2] != n_context or array.size == 0:
        raise ValueError(f"scores must be [layers, heads, n_context = {n_context}], got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError("scores must be finite, got NaN or infinity")
    return array


def eviction_order(scores: NDArray[Any]) -> NDArray[np.int32]:
    """Return the rank of each score within the last axis, 1 for the lowest, int32.

    Of equal scores the higher position ranks lower: among ties, the lowest position is kept longest.
    """
    n = scores.shape[-1]
    order = n - 1 - np.argsort(scores[..., ::-1], axis=-1, kind="stable")
    ranks = np.empty(scores.shape, dtype=np.int32)
    np.put_along_axis(
        ranks, order, np.broadcast_to(np.arange(1, n + 1, dtype=np.int32), scores.shape), axis=-1
    )
    return ranks


def protect_recent(scores: NDArray[Any], window: int) -> NDArray[Any]:
    """Return scores whose last `window` rows all share one score above every other.

    Raises
    ------
    ValueError
        If window is not in 0..n_context - 1.
    """
    n_context = scores.shape[-1]
    if not 0 <= window < n_context:
        raise ValueError(f"window must be in 0..n_context - 1 = {n_context - 1}, got {window}")
    protected = scores.astype(np.float64)
    if window:
        protected[..., -window:] = protected.max() + 1
    return protected


def is_nested(name: str) -> bool:
    """Return whether one Survival of the policy holds for all ratios; if not, it is asked one at a time."""
    return "ratio" not in inspect.signature(policies[name]).parameters


def apply(name: str, scores: ArrayLike, *, ratio: float | None = None, **parameters: Any) -> Survival:
    """Run the policy called `name` on scores[layers, heads, n_context].

    A policy that is not nested needs the ratio; one that is takes no notice of it.

    Raises
    ------
    ValueError
        If the policy is unknown, does not take a parameter or lacks its ratio, or the scores are malformed.
    """
    policies.check_parameters(name, parameters)
    function = policies[name]
    array = np.asarray(scores)
    n_context = array.shape[-1] if array.ndim else 0
    if not is_nested(name):
        if ratio is None:
            raise ValueError(f"policy {name!r} is not nested: it must be asked for one ratio at a time")
        parameters["ratio"] = ratio
    survival: Survival = function(check_scores(array, n_context), n_context=n_context, **parameters)
    return survival
