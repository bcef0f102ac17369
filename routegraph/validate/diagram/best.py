"""The best split of a number of bytes: many rows of few bits, or few rows of many."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from routegraph.stats.certified import holm
from routegraph.stats.intervals import Interval, interval_dict
from routegraph.stats.paired import mcnemar, paired_difference
from routegraph.stats.proportions import wilson
from routegraph.tables import many
from routegraph.validate.diagram.cells import Grid, name_of
from routegraph.validate.measure.reading import short

#: Shares of the whole cache's bytes for which a split is named.
BUDGETS = (0.5, 0.25, 0.125)
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Split:
    """One way to spend the bytes: a precision with as many rows as fit.

    Attributes
    ----------
    bits, ratio : int
        Places in the grid.
    kept : Interval
        Share of the answers kept, Wilson's 95 % interval.
    """

    bits: int
    ratio: int
    kept: Interval


@dataclass(frozen=True, eq=False)
class Best:
    """What a number of bytes is best spent on.

    Attributes
    ----------
    budget : float
        Share of the whole cache's bytes.
    splits : tuple of Split
        One a precision that fits at some ratio measured, those that keep most first; of equal ones that of the fewest
        bytes.
    differences : tuple of Interval
        Of the first one against each other one, paired, 95 % (Tango).
    p_values : tuple of float
        Of these, McNemar's exact test, Holm over all pairs of splits: the first is chosen on the same items.
    """

    budget: float
    splits: tuple[Split, ...]
    differences: tuple[Interval, ...]
    p_values: tuple[float, ...]

    @property
    def told(self) -> bool:
        """Whether the first is told from every other."""
        return all(p < LEVEL for p in self.p_values)


def check_budget(budget: float) -> None:
    """Raise ValueError unless a budget is a share of the bytes, in (0, 1]."""
    if not 0 < budget <= 1:
        raise ValueError(f"bytes must be a share in (0, 1], got {budget:g}")


def best(grid: Grid, budget: float) -> Best:
    """Return the splits of a number of bytes, the one that keeps most first.

    Raises
    ------
    ValueError
        If the budget is not in (0, 1].
    """
    check_budget(budget)
    held, found = grid.held, []
    for bits, taken in enumerate(grid.bytes):
        fits = np.flatnonzero(taken <= budget + 1e-9)
        if len(fits):
            ratio = int(fits[0])
            k, n = int(held[:, bits, ratio].sum()), len(held)
            low, high = (float(end) for end in wilson(k, n))
            found.append(Split(bits, ratio, Interval(k / n, low, high)))
    found.sort(key=lambda one: (-one.kept.value, grid.bytes[one.bits, one.ratio]))
    pairs = list(combinations(range(len(found)), 2))
    flips = [_flips(grid, found[a], found[b]) for a, b in pairs]
    corrected = holm(np.array([mcnemar(*one) for one in flips])) if pairs else np.empty(0)
    first = [k for k, (a, _) in enumerate(pairs) if a == 0]
    return Best(
        budget,
        tuple(found),
        tuple(paired_difference(*flips[k], len(held)) for k in first),
        tuple(float(corrected[k]) for k in first),
    )


def _flips(grid: Grid, one: Split, other: Split) -> tuple[int, int]:
    """Return how many items are right under the first alone, and under the second alone."""
    mine, theirs = (grid.held[:, split.bits, split.ratio] for split in (one, other))
    return int((mine & ~theirs).sum()), int((theirs & ~mine).sum())


def split_words(grid: Grid, split: Split) -> str:
    """Return what a split is, in words."""
    return f"bits {name_of(grid.bits[split.bits])} at ratio {short(grid.ratios[split.ratio])}"


def best_sentence(grid: Grid, found: Best) -> str:
    """Return which split of the bytes keeps most, and what it is not told from."""
    share = f"{100 * found.budget:g} % of the bytes"
    if not found.splits:
        return f"At {share} or fewer: nothing that was measured fits."
    first = found.splits[0]
    kept = f"{first.kept.value:.2f} [{first.kept.low:.2f}, {first.kept.high:.2f}] of {many(len(grid.held), 'answer')}"
    taken = 100 * grid.bytes[first.bits, first.ratio]
    head = f"At {share} or fewer, {split_words(grid, first)} keeps most, {kept} at {taken:.0f} %"
    same = [
        split_words(grid, other)
        for other, p in zip(found.splits[1:], found.p_values, strict=True)
        if p >= LEVEL
    ]
    if not found.p_values:
        return f"{head}; nothing else fits."
    if not same:
        return f"{head}, more than every other split that fits."
    return f"{head}; these items do not tell it from {'; '.join(same)}."


def best_dict(grid: Grid, found: Best) -> dict[str, Any]:
    """Return the splits of a budget as JSON-ready values."""
    against = [(None, None), *zip(found.differences, found.p_values, strict=True)]
    return {
        "bytes": found.budget,
        "told": found.told and len(found.splits) > 1,
        "splits": [
            {
                "bits": grid.bits[one.bits],
                "ratio": float(grid.ratios[one.ratio]),
                "bytes": float(grid.bytes[one.bits, one.ratio]),
                "kept": interval_dict(one.kept),
                "best_minus_this": None if difference is None else interval_dict(difference),
                "p_value": p,
            }
            for one, (difference, p) in zip(found.splits, against, strict=False)
        ],
    }
