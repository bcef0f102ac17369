"""The registry of policies that evict while decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.registry import Registry
from routegraph.sim.decoding.slot import Slot
from routegraph.sim.decoding.static import static

#: Registry of policies that evict while decoding; `decoding_policy` is its decorator.
decoding_policies = decoding_policy = Registry("decoding policy")


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
