"""Which theory stands beside which simulated observable."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from routegraph.policies import declared
from routegraph.sim.parameters import Parameters
from routegraph.theory import ger, reach

#: Draws of the copula of a score field that has no closed form.
DRAWS = 20_000


def predict(parameters: Parameters, observable: str, levels: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return theory for an observable at each level, float64[n_levels], or None where none applies."""
    if not declared(parameters.policy).plain:
        return None
    n_layers, n_heads, n = parameters.shape
    gone = levels / n
    slots = {
        "ger": n_layers * n_heads,
        "eviction_rate": n_layers * n_heads,
        "ger_layer": n_heads,
        "eviction_rate_layer": n_heads,
    }
    if observable in slots and parameters.plain_scores:
        if _one_factor(parameters):
            return ger.one_factor(gone, slots[observable], parameters.score_correlation)
        return _field_copula(parameters, observable.endswith("layer"), gone)
    uniform = parameters.ensemble == "uniform" and parameters.prune == "columns"
    uniform &= parameters.source == "query" and parameters.directed
    if observable == "reach_fraction" and uniform and parameters.independent:
        curve = reach.cavity(n, n_layers, n_heads, parameters.reads, gone, parameters.residual)
        return np.asarray(curve.mean(axis=1))
    return None


def prediction_error(parameters: Parameters, observable: str, mean: float) -> float | None:
    """Return the standard error of what `predict` gives where it is drawn; None where it is a formula."""
    known = declared(parameters.policy).plain and parameters.plain_scores
    if observable not in ("ger", "eviction_rate") or not known or _one_factor(parameters):
        return None
    return math.sqrt(mean * (1 - mean) / DRAWS)


def _one_factor(parameters: Parameters) -> bool:
    """Return whether one correlation says how any two slots agree, in whatever layers."""
    return parameters.profile == "flat" and parameters.correlation_floor == 1


def _field_copula(parameters: Parameters, by_layer: bool, gone: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return GER under the Gaussian copula of the simulation's own score field."""
    if not by_layer:
        correlation = parameters.field().correlation(parameters.n_heads)
        return ger.gaussian_copula(correlation, gone, draws=DRAWS).mean
    layers = [ger.one_factor(gone, parameters.n_heads, c) for c in parameters.agreement().tolist()]
    return np.asarray(np.mean(layers, axis=0))
