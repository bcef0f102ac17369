"""A few ratios tried: the reply is read once more with an evicted cache, and that corrects what its support tells.

How much of its support a reply can lose differs from reply to reply and from model to model. To read its tokens again
with what a policy leaves at one ratio tells how much less likely it has become there; two or three such passes a
policy, placed by bisection, find the ratio at which it breaks, and between them the support says how the way goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.decoding.decode import score
from routegraph.validate.models.load import Loaded

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Place = tuple[int, int]

#: A reply counts as broken, for the bisection, where its least sure token is half as likely as with the full cache.
HALF = 0.5


def likelihood_lost(falls: Floats) -> Floats:
    """Return the share of its likelihood that the token which loses most loses.

    Parameters
    ----------
    falls : float64[..., n_tokens]
        By how much the logarithm of each token's likelihood falls; a token may become likelier.

    Returns
    -------
    float64[...]
        1 - exp(-largest fall), in [0, 1]; 0 where none falls.
    """
    return np.asarray(-np.expm1(-np.maximum(falls.max(axis=-1), 0.0)))


def bisected(
    lost_at: Callable[[Sequence[Place]], Sequence[float]], n_policies: int, n_ratios: int, tries: int
) -> Floats:
    """Try ratios of every policy by bisection, all policies side by side.

    Parameters
    ----------
    lost_at : callable
        Called once a round with at most one (policy, place of a ratio) each; returns what the reply loses at them.
    n_policies, n_ratios : int
        Ratios from small to large, the first one 0, where nothing is lost.
    tries : int
        Rounds; fewer where every bracket has closed.

    Returns
    -------
    float64[n_policies, n_ratios]
        What is lost where it was tried, 0 at the first ratio; NaN elsewhere.
    """
    lost = np.full((n_policies, n_ratios), np.nan)
    lost[:, 0] = 0.0
    low, high = np.zeros(n_policies, dtype=int), np.full(n_policies, n_ratios)
    for _ in range(tries):
        middle = (low + high) // 2
        places = [(k, int(middle[k])) for k in range(n_policies) if high[k] - low[k] > 1]
        if not places:
            break
        for (k, place), value in zip(places, lost_at(places), strict=True):
            lost[k, place] = value
            (high if value > HALF else low)[k] = place
    return lost


def between(support: Floats, tried: Floats) -> Floats:
    """Return what a reply loses at every ratio: where it was tried, that; elsewhere interpolated along its support.

    Parameters
    ----------
    support : float64[..., n_ratios]
        Share of its support that is lost, in [0, 1]; it counts as lost once it was at a smaller ratio.
    tried : float64[..., n_ratios]
        As `bisected` returns it.

    Returns
    -------
    float64[..., n_ratios]
        In [0, 1]. The ends are nothing at no support lost, and all at all; without any try it is the support itself.
    """
    axes = np.maximum.accumulate(support, axis=-1)
    shape = support.shape
    rows = zip(axes.reshape(-1, shape[-1]), tried.reshape(-1, shape[-1]), strict=True)
    return np.array([_between(axis, known) for axis, known in rows]).reshape(shape)


def _between(axis: Floats, known: Floats) -> Floats:
    if np.isnan(axis).any():
        return np.full(axis.shape, np.nan)
    told = np.flatnonzero(~np.isnan(known[1:])) + 1
    # Of places with the same support the last counts: steps of the support are steps of the loss.
    xs = np.concatenate([[0.0], axis[told], [1.0]])
    ys = np.maximum.accumulate(np.concatenate([[0.0], known[told], [1.0]]))
    made = np.interp(axis, xs, ys)
    made[told], made[0] = known[told], 0.0
    return np.asarray(made)


def try_ratios(
    model: Loaded,
    cache: Any,
    question: Ids,
    reply: Ids,
    distinct: NDArray[np.bool_],
    variants: Ids,
    tries: int,
) -> Floats:
    """Read a reply again with what every policy leaves at a few ratios, one pass a round; an equal kept set once.

    Parameters
    ----------
    model : Loaded
    cache : cache
        Of the context, as `prefill.prefill` returns it; it is as before afterwards.
    question, reply : int64[...]
        Tokens after the context.
    distinct : bool[n_distinct, n_layers, n_heads, n_context]
        Kept sets.
    variants : int64[n_policies, n_ratios]
        Which of them each policy leaves at each ratio, the first one 0.
    tries : int
        See `bisected`.

    Returns
    -------
    float64[n_policies, n_ratios]
        See `bisected` and `likelihood_lost`.
    """
    whole = np.ones((1, *distinct.shape[1:]), dtype=bool)
    full = score(model, cache, question, reply, whole).log_probabilities

    known: dict[int, float] = {}

    def lost_at(places: Sequence[Place]) -> list[float]:
        asked = [int(variants[place]) for place in places]
        new = [variant for variant in dict.fromkeys(asked) if variant not in known]
        if new:
            told = score(model, cache, question, reply, distinct[new]).log_probabilities
            known.update(zip(new, likelihood_lost(full - told).tolist(), strict=True))
        return [known[variant] for variant in asked]

    return bisected(lost_at, len(variants), variants.shape[1], tries)
