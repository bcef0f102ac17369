"""What a policy does to one prompt, read off its scores exactly at every ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.choices import AXES
from routegraph.policies.base import eviction_order
from routegraph.survival import Survival, fraction_gone
from routegraph.theory.ger import normal_scores
from routegraph.trace import Trace
from routegraph.validate.eviction import Eviction, Fates

Curve = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReadOff:
    """What one policy does to one prompt's slots, exact at every ratio.

    Attributes
    ----------
    n_context : int
    gone : float64[n_layers * n_heads, n_ratios]
        Fraction of the evictable rows (protected neither by the scorer nor by the policy) gone from each slot.
    evictable, everything, answers : mapping of "model" / "layer" to float64[n_ratios]
        Fraction of the evictable tokens; of all tokens (eviction rate); of the answer tokens (GER)
        gone from all slots. Answers are NaN where a prompt has no answer span.
    normal_scores : float64[n_layers * n_heads, n_evictable]
        Normal scores of the evictable tokens' order in each slot.
    answer_scores : float64[n_layers * n_heads, n_evictable answers]
        Those of the answer tokens.
    spared : float
        Share of the answer tokens that is protected; NaN without answers.
    """

    n_context: int
    gone: Curve
    evictable: dict[str, Curve]
    everything: dict[str, Curve]
    answers: dict[str, Curve]
    normal_scores: Curve
    answer_scores: Curve
    spared: float


def read_off(trace: Trace, eviction: Eviction, ratios: Sequence[float]) -> ReadOff:
    """Count, at every ratio, what an eviction takes of one prompt, and from where."""
    fates = eviction.fates(ratios)
    evictable, answers = ~eviction.protected, trace.answer
    order = fates.drop
    if len(fates.parts) > 1 and eviction.method.scored:  # rows that go at one ratio, by their scores
        order = order * (trace.n_context + 1) + eviction_order(eviction.scores)
    scores = normal_scores(order.reshape(-1, trace.n_context)[:, evictable])
    is_answer = np.isin(np.flatnonzero(evictable), answers)
    nothing = np.full(len(ratios), np.nan)

    def by_slot(survival: Survival, at: Sequence[float]) -> Curve:
        drop = survival.drop.reshape(-1, trace.n_context)[:, evictable]
        return np.array([fraction_gone(slot, survival.levels(at)) for slot in drop])

    return ReadOff(
        n_context=trace.n_context,
        gone=fates.join(by_slot),
        evictable={over: tokens_gone(fates, over, evictable) for over in AXES},
        everything={over: tokens_gone(fates, over, slice(None)) for over in AXES},
        answers={over: tokens_gone(fates, over, answers) if len(answers) else nothing for over in AXES},
        normal_scores=scores,
        answer_scores=scores[:, is_answer],
        spared=1 - float(evictable[answers].mean()) if len(answers) else float("nan"),
    )


def tokens_gone(fates: Fates, over: str, tokens: Any) -> Curve:
    """Return the fraction of some tokens that is gone from all slots of a head axis, float64[n_ratios]."""
    return fates.join(lambda one, at: fraction_gone(one.last(over)[:, tokens], one.levels(at)))
