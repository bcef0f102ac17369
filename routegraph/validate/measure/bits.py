"""What is said of answers with the context's cache at fewer bits, and the bytes that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.stats.proportions import wilson
from routegraph.tables import Grid
from routegraph.validate.measure.answers import Answers
from routegraph.validate.quantise.precision import Precision

BITS_NOTE = (
    "'0 full' is the reference: nothing removed, the cache as it is. Every other column has the bits named above, '0' "
    "with nothing removed. Policies go by scores of the cache as it is; what they keep is rounded. An item fails where "
    "it is right at the reference and not right here. Bytes are those of "
    "the context's cache, 100: all of its rows at 16 bits; codes, 16-bit scales and offsets count."
)


def bits_words(bits: str) -> str:
    """Return what bits mean, in a sentence; nothing where there are none."""
    if not bits:
        return ""
    precision = Precision.named(bits)
    return f"Bits {precision.name} of the context's cache: {precision.words}."


def bits_definitions(bits: str) -> dict[str, str]:
    """Return the definitions that a result with bits has beside, or in the place of, those of every measurement."""
    if not bits:
        return {}
    return {
        "bits": f"{Precision.named(bits).words}; the context is prefilled and scored with the cache as it is, what the "
        "policy keeps of each head is rounded, and question and reply attend to the rounded rows; their own rows are "
        "not rounded",
        "reference": "the first of every row of figures, at the first of two ratios 0: nothing removed, the cache as "
        "it is; all others have the bits, the second ratio 0 with nothing removed",
        "fails": "right at the reference and not right at this ratio with the bits (an abstention fails, too); items "
        "not right at the reference are out",
        "critical": "of the ratios with bits alone: logistic in the ratio against line, parabola and constant, on the "
        "counts; interval by resampling items",
        "bytes": "of the context's cache, packed: codes, scales and offsets of 16 bits, 16 bits for each number that "
        "stays as it is / of all of its rows at 16 bits; mean over items",
    }


def bits_sentence(found: Answers) -> str:
    """Return how many items are right with bits alone, and how many of those right at the reference still are."""
    right, before = found.right[:, 0, 1], found.right[:, 0, 0]
    low, high = (float(end) for end in wilson(int(right.sum()), len(right)))
    return (
        f"Right with bits {Precision.named(found.bits).name} and nothing removed: {int(right.sum())} of {len(right)} "
        f"items, {right.mean():.2f} [{low:.2f}, {high:.2f}]; of the {int(before.sum())} right before, "
        f"{int((right & before).sum())} still are."
    )


def bytes_grid(found: Answers, share: NDArray[np.float64]) -> Grid:
    """Return what the context's cache takes at every place, by `bytes_share`, in percent."""
    columns = ["policy", "0 full", *(f"{ratio:g}" for ratio in found.ratios[1:])]
    rows = [
        [policy, *(f"{100 * one:.1f}" for one in row)]
        for policy, row in zip(found.policies, share, strict=True)
    ]
    return Grid(columns, rows, title="Bytes of the cache, percent")


def bytes_share(cells: Sequence[Mapping[str, Any]], n_policies: int) -> NDArray[np.float64]:
    """Return the bytes of the context's cache as a share of the reference's, float64[n_policies, n_ratios].

    The mean over the items, whose cells know the bytes.
    """
    table = np.array([cell["bytes"] for cell in cells], dtype=float).reshape(len(cells), n_policies, -1)
    return np.asarray((table / table[:, :, :1]).mean(axis=0))
