"""The largest ratio of every press that these results certify, by the rule of `certify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routegraph.stats.certified import p_values, trials_needed
from routegraph.tables import many
from routegraph.validate.audit.checks import curves
from routegraph.validate.audit.pairs import Pair
from routegraph.validate.audit.runs import Scope
from routegraph.validate.certify.run import last_certified


@dataclass(frozen=True, eq=False)
class CertifiedRatio:
    """What is certified of one press on one data set and model.

    Attributes
    ----------
    scope : Scope
    press : str
    items : int
        Those that all ratios and the uncompressed run have, with a verdict.
    right : int
        How many of them are right without compression.
    ratios : float64[n_ratios]
        Tested, from the smallest on.
    counts : int64[n_ratios]
        Answers that break at each.
    p_values : float64[n_ratios]
        Of "more than the risk breaks"; empty where nothing was tested.
    ratio : float or None
        The largest certified ratio.
    reason : str
        Why none is certified; empty where one is.
    """

    scope: Scope
    press: str
    items: int
    right: int
    ratios: NDArray[np.float64]
    counts: NDArray[np.int64]
    p_values: NDArray[np.float64]
    ratio: float | None
    reason: str = ""


def certificates(pairs: Sequence[Pair], risk: float, confidence: float) -> tuple[list[CertifiedRatio], int]:
    """Certify every curve; the confidence is shared out among them, so that all statements hold together.

    Returns
    -------
    certificates : list of CertifiedRatio
    needed : int
        Items that would do if none of them broke.
    """
    found = curves(pairs)
    level = (1 - confidence) / max(len(found), 1)
    return [_certified(curve, risk, level) for curve in found], trials_needed(risk, level)


def _certified(curve: Sequence[Pair], risk: float, level: float) -> CertifiedRatio:
    """Certify one curve: Learn then Test, fixed sequence from the smallest ratio on."""
    run = curve[0].run
    harm, right = _harm(curve)
    ratios = np.array([pair.run.ratio for pair in curve])
    counts = harm.sum(axis=0)
    n = len(harm)

    def told(ratio: float | None, reason: str = "", tested: bool = True) -> CertifiedRatio:
        values = p_values(counts, n, risk) if tested else np.array([])
        return CertifiedRatio(run.scope, run.label, n, right, ratios, counts, values, ratio, reason)

    if n == 0:
        return told(None, "its ratios have no item in common", tested=False)
    if len({id(pair.base) for pair in curve}) > 1:
        return told(None, "its ratios have different uncompressed runs", tested=False)
    if right <= risk * n:
        return told(
            None,
            f"only {right} of {n} are right without compression, so that hardly any can break",
            tested=False,
        )
    needed = trials_needed(risk, level)
    if n < needed:
        return told(None, f"{many(n, 'item')} are too few, even if none broke: at least {needed} are needed")
    last = last_certified(counts, n, ratios, risk, level)
    if last is None:
        return told(None, f"{counts[0]} of {n} break at its smallest ratio, {ratios[0]:g}")
    # Where the press never fired, what was tested is no compression.
    fired = [k for k in range(last + 1) if not curve[k].unproven]
    if not fired:
        return told(None, "no text changes at the ratios that pass: nothing shows that the press fired")
    return told(float(ratios[fired[-1]]))


def _harm(curve: Sequence[Pair]) -> tuple[NDArray[np.bool_], int]:
    """Return which common items break, bool[n_items, n_ratios], and how many are right without compression."""
    places = [
        {key: at for at, (key, judged) in enumerate(zip(pair.keys, pair.judged, strict=True)) if judged}
        for pair in curve
    ]
    common = [key for key in places[0] if all(key in one for one in places[1:])]
    broken = [
        [bool(pair.broken[place[key]]) for pair, place in zip(curve, places, strict=True)] for key in common
    ]
    right = sum(bool(curve[0].before[places[0][key]]) for key in common)
    return np.array(broken, dtype=bool).reshape(len(common), len(curve)), right
