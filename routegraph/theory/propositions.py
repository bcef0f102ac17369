"""The propositions of arXiv 2603.01426 as formulas: redundancy of routes, rigidity, failure decomposition."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.stats.proportions import Proportion, proportion

Values = NDArray[np.float64]


def redundancy_bound(p: ArrayLike, routes: ArrayLike) -> Values:
    """Return Proposition 1: Pr[reachable] >= 1 - (1 - p)**k.

    Parameters
    ----------
    p : float[...]
        Chance of each route to survive, at least.
    routes : int[...]
        k, routes that share no slot (`routegraph.flow.disjoint_routes`).

    Notes
    -----
    An equality for k independent routes of equal chance and no others. Independent slots keep it, and so do fixed
    budgets, where a slot's survival makes that of another of its head less likely. **Positive correlation between
    slots breaks it**: for k heads that read the token straight, the truth is 1 - GER of one layer, and with one
    factor of correlation rho ``1 - ger.one_factor(1 - p, k, rho)``, which falls to p as rho rises to 1.
    """
    return np.asarray(1 - (1 - np.asarray(p, dtype=float)) ** np.asarray(routes))


def routes_needed(p: float, target: float) -> float:
    """Return k at which `redundancy_bound` reaches `target`; infinite at p = 0. Both in [0, 1)."""
    if p <= 0:
        return 0.0 if target <= 0 else float("inf")
    return float(np.log1p(-target) / np.log1p(-p))


def rigidity_shift(weight: ArrayLike, evidence: ArrayLike, is_evidence: ArrayLike) -> Values:
    """Return the change of a head's evidence mass when its top token is pruned and the row renormalised.

    Parameters
    ----------
    weight : float[...]
        a*, attention weight of the pruned token, in [0, 1).
    evidence : float[...]
        a_E, mass on evidence before, the pruned token included where it is evidence.
    is_evidence : bool[...]
        Whether the pruned token is evidence.

    Returns
    -------
    float64[...]
        -a* (1 - a_E) / (1 - a*) if it is evidence, + a_E a* / (1 - a*) if it is not.

    Raises
    ------
    ValueError
        If a weight is outside [0, 1), or masses do not add up to at most 1.

    Notes
    -----
    Proposition 3 made exact. The sign depends on the token: losing an attention sink *raises* what goes to
    evidence.
    """
    a, e, evident = (
        np.asarray(weight, dtype=float),
        np.asarray(evidence, dtype=float),
        np.asarray(is_evidence),
    )
    if np.any((a < 0) | (a >= 1)):
        raise ValueError("weight must be in [0, 1)")
    # A sum of weights may be an ulp above 1: what rounding can do is let through, and clipped.
    if np.any((e < -1e-12) | (e > 1 + 1e-12) | np.where(evident, a > e + 1e-12, a + e > 1 + 1e-12)):
        raise ValueError(
            "evidence must be in [0, 1] and fit beside (or around) the weight of the pruned token"
        )
    e = np.clip(e, 0, 1)
    return np.asarray(np.where(evident, -a * (1 - e), e * a) / (1 - a))


def layer_rigidity(
    weight: ArrayLike, evidence: ArrayLike, is_evidence: bool, shares: ArrayLike
) -> tuple[float, float]:
    """Return (change of a layer's evidence mass, rho_l) when the token shared by its heads is pruned.

    Parameters
    ----------
    weight, evidence : float[n_heads]
        a* of the shared token and evidence mass in each head.
    is_evidence : bool
        Whether the shared token is evidence.
    shares : bool[n_heads]
        Heads whose top token it is: they re-route. rho_l is their share (`agreement` of the layer).

    Returns
    -------
    float, float
        rho_l times the mean of `rigidity_shift` over the heads that share it; rho_l.

    Notes
    -----
    Exact for the heads that share the token; what the others lose with it (their weight on it is no maximum) is
    left out, as in the proposition. Pass all True to count every head.
    """
    chosen = np.asarray(shares, dtype=bool)
    rho = float(chosen.mean())
    if not chosen.any():
        return 0.0, 0.0
    a = np.asarray(weight, dtype=float)[chosen]
    change = rigidity_shift(a, np.asarray(evidence, dtype=float)[chosen], is_evidence)
    return rho * float(change.mean()), rho


class Decomposition(NamedTuple):
    """Pr(F) = Pr(F|E) Pr(E) + Pr(F|not E) Pr(not E).

    Attributes
    ----------
    failure, erased : Proportion
        Pr(F); Pr(E), E = all answer tokens erased.
    given_erased, given_kept : Proportion
        Pr(F|E), Pr(F|not E).
    from_erasure, from_rigidity : float
        The two terms; they add up to Pr(F) exactly.
    """

    failure: Proportion
    erased: Proportion
    given_erased: Proportion
    given_kept: Proportion
    from_erasure: float
    from_rigidity: float


def decompose_failure(failed: ArrayLike, erased: ArrayLike) -> Decomposition:
    """Split the failures of items by whether their answer was erased.

    Parameters
    ----------
    failed, erased : bool[n_items]
        Whether the item failed; whether event E happened to it (all its answer tokens gone).

    Raises
    ------
    ValueError
        If lengths differ or there are no items.

    Notes
    -----
    Failure decomposition of arXiv 2603.01426. GER is no Pr(E): it counts parts, so GER >= Pr(E). Intervals treat
    items as independent.
    """
    f, e = np.asarray(failed, dtype=bool), np.asarray(erased, dtype=bool)
    if f.shape != e.shape or f.ndim != 1 or not len(f):
        raise ValueError(
            f"failed and erased must be lists of one length of at least 1, got {f.shape}, {e.shape}"
        )
    n, gone = len(f), int(e.sum())
    both, alone = int((f & e).sum()), int((f & ~e).sum())
    return Decomposition(
        failure=proportion(both + alone, n),
        erased=proportion(gone, n),
        given_erased=proportion(both, gone),
        given_kept=proportion(alone, n - gone),
        from_erasure=both / n,
        from_rigidity=alone / n,
    )
