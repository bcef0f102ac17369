"""Which theory stands beside which simulated observable."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph.sim.parameters import Parameters
from routegraph.theory import ger, reach

#: Policies that cut every slot of n rows at its own level-th lowest score.
PLAIN = ("random", "topk")


def predict(parameters: Parameters, observable: str, levels: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return theory for an observable at each level, float64[n_levels], or None where none applies."""
    if parameters.policy not in PLAIN:
        return None
    n_layers, n_heads, n = parameters.shape
    gone = levels / n
    slots = {
        "ger": n_layers * n_heads,
        "eviction_rate": n_layers * n_heads,
        "ger_layer": n_heads,
        "eviction_rate_layer": n_heads,
    }
    if observable in slots:
        return ger.one_factor(gone, slots[observable], parameters.score_correlation)
    independent = parameters.score_correlation == 0
    uniform = parameters.ensemble == "uniform" and parameters.prune == "columns"
    if observable == "reach_fraction" and uniform and independent:
        curve = reach.cavity(n, n_layers, n_heads, parameters.degree, gone, parameters.residual)
        return np.asarray(curve.mean(axis=1))
    return None
