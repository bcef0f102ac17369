"""Compare what our policies keep with what kvpress really keeps, slot by slot.

Real differences are told from ties, which ``torch.topk`` breaks arbitrarily.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import policies
from routegraph.validate import presses

Kept = NDArray[np.bool_]

#: Policies that kvpress has, too.
POLICIES = ("topk", "adakv", "chunk")
RATIOS = (0.3, 0.5, 0.7, 0.9, 0.95)


@dataclass(frozen=True)
class KeptComparison:
    """How two sets of kept rows differ.

    Attributes
    ----------
    slots, ties, mismatches : int
        Slots compared; slots that differ with the very score at which the cut fell, which the two sides
        broke differently; slots that differ otherwise.
    """

    slots: int
    ties: int
    mismatches: int


def compare_kept(
    ours: Kept, theirs: Kept, scores: NDArray[np.float32], groups: NDArray[np.int64]
) -> KeptComparison:
    """Compare two kept sets slot by slot.

    ``torch.topk`` breaks ties arbitrarily, so of rows with equal scores at the cut either may be kept, if
    only as many are. Whatever else differs is a mismatch.

    Parameters
    ----------
    ours, theirs : bool[n_layers, n_heads, n]
        The kept sets.
    scores : float32[n_layers, n_heads, n]
        What both were chosen by.
    groups : int64[n_layers, n_heads, n]
        Which slots compete for the same places: see `competitors`.
    """
    differs = ours != theirs
    ties = 0
    for group in np.unique(groups[differs]):
        inside = groups == group
        apart = differs & inside
        same_score = len(np.unique(scores[apart])) == 1
        if same_score and ours[inside].sum() == theirs[inside].sum():
            ties += int(apart.sum())
    return KeptComparison(slots=differs.size, ties=ties, mismatches=int(differs.sum()) - ties)


def competitors(policy: str, shape: tuple[int, int, int], chunk_length: int = 64) -> NDArray[np.int64]:
    """Return, for each slot, the group whose slots compete under a policy, int64[n_layers, n_heads, n].

    "adakv": all heads of a layer; "chunk": a chunk of a head; otherwise the rows of a head.
    """
    layer, head, row = np.indices(shape)
    if policy == "adakv":
        return np.asarray(layer)
    n_chunks = -(-shape[2] // chunk_length) if policy == "chunk" else 1
    chunk = row // chunk_length if policy == "chunk" else 0
    return np.asarray((layer * shape[1] + head) * n_chunks + chunk)


def compare_with_kvpress(
    model: Any,
    input_ids: Any,
    ratios: Sequence[float] = RATIOS,
    chunk_length: int = 64,
    scorer: str | None = None,
) -> list[tuple[str, float, KeptComparison]]:
    """Compare our policies with kvpress's presses on one context.

    Ours derive every ratio from the scores of one prefill; kvpress prunes in a run of its own for each.

    Parameters
    ----------
    model : transformers model
        With sdpa attention.
    input_ids : int[1, n] tensor
        The context.
    ratios : sequence of float
        Compression ratios.
    chunk_length : int
        For "chunk".
    scorer : str, optional
        Name of the scorer (see `presses.SCORERS`) that kvpress's presses use; by default its own
        ExpectedAttentionPress, which gives the same scores, more slowly.

    Returns
    -------
    list of (policy, ratio, KeptComparison)
    """
    tables = presses.prefill_scores(model, input_ids, presses.SCORERS["expected_attention"](), [chunk_length])
    rows = []
    for policy in POLICIES:
        scores = tables[chunk_length if policy == "chunk" else None]
        survival = policies.apply(
            policy, scores, **({"chunk_length": chunk_length} if policy == "chunk" else {})
        )
        groups = competitors(policy, scores.shape, chunk_length)
        for ratio in ratios:
            by = presses.SCORERS[scorer]() if scorer else None
            press = presses.reference_press(policy, ratio, chunk_length, by)
            theirs = presses.reference_kept(model, input_ids, press)
            rows.append((policy, ratio, compare_kept(survival.alive(ratio), theirs, scores, groups)))
    return rows
