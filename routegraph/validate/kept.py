"""Compare two sets of kept cache rows slot by slot, telling broken ties from real differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Kept = NDArray[np.bool_]


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
