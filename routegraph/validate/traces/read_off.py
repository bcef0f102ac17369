"""What a policy does to one prompt, read off its scores exactly at every ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routegraph import policies
from routegraph.survival import AXES, Survival, fraction_gone
from routegraph.theory.ger import normal_scores
from routegraph.trace import Trace

Curve = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReadOff:
    """What one policy does to one prompt's slots, exact at every ratio.

    Attributes
    ----------
    n_context : int
    gone : float64[n_layers * n_heads, n_ratios]
        Fraction of the evictable rows (not protected by the scorer) gone from each slot.
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


def scorer_of(trace: Trace, policy: str, scorer: str | None = None) -> str:
    """Return the name of the score table a policy evicts by: made by chunk for "chunk", whole otherwise.

    scorer: whose table; of whichever scorer comes first by default.
    """
    policies.policies[policy]
    by_chunk = policy == "chunk"
    for name in trace.scores:
        if ("chunk_length" in trace.scorers.get(name, {})) == by_chunk and scorer in (
            None,
            name.partition("/")[0],
        ):
            return name
    whose = "" if scorer is None else f" by scorer {scorer!r}"
    raise ValueError(
        f"trace holds no {'chunk-wise ' if by_chunk else ''}scores{whose} for policy {policy!r}; "
        f"it holds: {', '.join(trace.scores) or 'none'}"
    )


def policy_parameters(trace: Trace, policy: str, scorer: str) -> dict[str, int]:
    """Return the parameters a policy takes from its score table: the chunk length of "chunk"."""
    return {"chunk_length": int(trace.scorers[scorer]["chunk_length"])} if policy == "chunk" else {}


def evict(trace: Trace, policy: str, scorer: str, n_context: int | None = None) -> Survival:
    """Evict a prompt's cache rows by a policy; of the first `n_context` rows only, where given.

    Scores stay those of the whole prompt, also where only its first rows are evicted.
    """
    scores = trace.scores[scorer][..., :n_context]
    return policies.apply(policy, scores, **policy_parameters(trace, policy, scorer))


def read_off(trace: Trace, policy: str, scorer: str, ratios: Sequence[float]) -> ReadOff:
    """Evict one prompt by a policy and count, at every ratio, what is gone from where."""
    survival = evict(trace, policy, scorer)
    levels = survival.levels(ratios)
    evictable = ~trace.protected(scorer)
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


def structural_cliffs(traces: Sequence[Trace], scorer: str) -> dict[str, float]:
    """Return the ratios beyond which code, not physics, decides: protected rows fill the budget."""
    parameters = traces[0].scorers.get(scorer, {})
    sinks, window = (int(parameters.get(name, 0)) for name in ("n_sink", "window"))
    rows, named = sinks + window, [f"{sinks} sinks"] * bool(sinks) + [f"a window of {window}"] * bool(window)
    if not rows:
        return {}
    what = " and ".join(named)
    if "chunk_length" in parameters:
        length = int(parameters["chunk_length"])
        return {f"{what} in each chunk of {length}": 1 - rows / length}
    lengths = [trace.n_context for trace in traces]
    return {
        f"{what} in the shortest prompt, n = {min(lengths)}": 1 - rows / min(lengths),
        f"{what} in the longest prompt, n = {max(lengths)}": 1 - rows / max(lengths),
    }
