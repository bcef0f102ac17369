"""Which theory stands beside which simulated observable."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph.policies import declared
from routegraph.sim.parameters import Parameters
from routegraph.theory import ger, reach

#: Draws of the copula of a score field that has no closed form.
DRAWS = 20_000


def predict(
    parameters: Parameters, observable: str, levels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None] | None:
    """Return theory for an observable at each level, or None where none applies.

    Its mean and, where it is drawn, its standard error, float64[n_levels] each; a formula has no error: None.
    """
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
        if parameters.profile == "flat" and parameters.correlation_floor == 1:
            return ger.one_factor(gone, slots[observable], parameters.score_correlation), None
        return _field_copula(parameters, observable.endswith("layer"), gone)
    uniform = parameters.ensemble == "uniform" and parameters.prune == "columns"
    uniform &= parameters.source == "query" and parameters.directed
    if observable == "reach_fraction" and uniform and parameters.independent:
        return reach.cavity_mean(n, n_layers, n_heads, parameters.reads, gone, parameters.residual), None
    return None


def _field_copula(
    parameters: Parameters, by_layer: bool, gone: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Return GER under the Gaussian copula of the simulation's own score field."""
    if not by_layer:
        correlation = parameters.field().correlation(parameters.n_heads)
        return ger.gaussian_copula(correlation, gone, draws=DRAWS)
    layers = [ger.one_factor(gone, parameters.n_heads, c) for c in parameters.agreement().tolist()]
    return np.asarray(np.mean(layers, axis=0)), None
