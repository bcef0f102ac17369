"""What a policy does to one prompt, read off its scores exactly at every ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routegraph.choices import AXES
from routegraph.survival import fraction_gone
from routegraph.theory.ger import normal_scores
from routegraph.trace import Trace
from routegraph.validate.eviction import Eviction

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
    """

    n_context: int
    gone: Curve
    evictable: dict[str, Curve]
    everything: dict[str, Curve]
    answers: dict[str, Curve]
    normal_scores: Curve
    answer_scores: Curve


def read_off(trace: Trace, eviction: Eviction, ratios: Sequence[float]) -> ReadOff:
    """Count, at every ratio, what an eviction takes of one prompt, and from where."""
    survival = eviction.survival()
    levels = survival.levels(ratios)
    evictable = ~eviction.protected
    drop = survival.drop.reshape(-1, trace.n_context)
    last = {over: survival.last(over) for over in AXES}
    answers = trace.answer
    scores = normal_scores(drop[:, evictable])
    is_answer = np.isin(np.flatnonzero(evictable), answers)
    nothing = np.full(len(levels), np.nan)
    return ReadOff(
        n_context=trace.n_context,
        gone=np.array([fraction_gone(slot, levels) for slot in drop[:, evictable]]),
        evictable={over: fraction_gone(last[over][:, evictable], levels) for over in AXES},
        everything={over: fraction_gone(last[over], levels) for over in AXES},
        answers={
            over: fraction_gone(last[over][:, answers], levels) if len(answers) else nothing for over in AXES
        },
        normal_scores=scores,
        answer_scores=scores[:, is_answer],
    )
