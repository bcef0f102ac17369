"""The registry of policies that evict while decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from routegraph.registry import Registry
from routegraph.sim.decoding.slot import Slot
from routegraph.sim.decoding.static import static

F = TypeVar("F", bound=Callable[..., Any])
#: Which theory knows a policy: any row goes with the same chance; the first n_sink and the latest rows stay.
Known = Literal["uniform", "recent"]

#: Registry of policies that evict while decoding; `decoding_policy` is its decorator.
decoding_policies = Registry("decoding policy")
_APART: dict[str, bool] = {}
_KNOWN: dict[str, Known | None] = {}


def decoding_policy(name: str, *, apart: bool = False, theory: Known | None = None) -> Callable[[F], F]:
    """Return a decorator that registers a policy of decoding.

    Parameters
    ----------
    name : str
    apart : bool
        Whether the rows of the prefill stay for good, and the budget is one of decoded rows.
    theory : {"uniform", "recent"}, optional
        Which theory of `routegraph.theory.decoding` knows it; "recent" takes the parameter n_sink.

    Raises
    ------
    ValueError
        If the name is taken by another function.
    """

    def register(function: F) -> F:
        decoding_policies(name)(function)
        _APART[name], _KNOWN[name] = apart, theory
        return function

    return register


def is_apart(name: str) -> bool:
    """Return whether the budget of a policy counts decoded rows only; ValueError if it is unknown."""
    decoding_policies[name]
    return _APART.get(name, False)


def theory_of(name: str) -> Known | None:
    """Return which theory knows a policy; None where none does."""
    return _KNOWN.get(name)


def resolved(name: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the function of a policy and the parameters that it takes, with their defaults.

    A policy of decoding, or one of `routegraph.policies`, which is then asked at every cut.

    Raises
    ------
    ValueError
        If there is neither.
    """
    from routegraph.policies import policies

    if name not in decoding_policies and name in policies:
        return static(name), policies.parameters(name)
    return decoding_policies[name], decoding_policies.parameters(name)


def deaths(name: str, slot: Slot, **parameters: Any) -> NDArray[np.int32]:
    """Return the step at which each row of a slot dies under the policy called `name`, int32[n_rows].

    n_steps + 1 where it never does.

    Raises
    ------
    ValueError
        If the policy is unknown, does not take a parameter, or the budget is too small for what it protects.
    """
    function, _ = resolved(name)
    found: NDArray[np.int32] = np.asarray(function(slot, **parameters), dtype=np.int32)
    return found
