"""Counts of what flips between two runs, with exact tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from routegraph.stats.certified import holm
from routegraph.stats.intervals import Interval
from routegraph.stats.paired import detectable, mcnemar, paired_difference
from routegraph.validate.audit.pairs import Pair


@dataclass(frozen=True)
class Flips:
    """What flips in one run, of one task or of all.

    Attributes
    ----------
    pair : Pair
    task : str
        "all" for all tasks together.
    n : int
        Items that both runs have.
    judged : int
        Those of them of which both verdicts are known.
    right_before, right_after : int
    broken, mended : int
        Right without compression and not right with it, and the other way round.
    unchanged : int
        Texts that are equal, letter by letter.
    p, p_corrected : float
        Exact McNemar, two-sided; corrected (Holm) over all runs, or over all runs and tasks.
    difference : Interval
        Share right with compression minus that without, 95 % (Tango).
    smallest : float
        See `routegraph.stats.paired.detectable`; NaN where there are too few items.
    """

    pair: Pair
    task: str
    n: int
    judged: int
    right_before: int
    right_after: int
    broken: int
    mended: int
    unchanged: int
    p: float
    p_corrected: float
    difference: Interval
    smallest: float

    @property
    def loses(self) -> bool:
        """Whether more answers break than are mended, beyond chance."""
        return self.broken > self.mended and self.p_corrected < 0.05

    @property
    def gains(self) -> bool:
        """Whether more answers are mended than break, beyond chance."""
        return self.mended > self.broken and self.p_corrected < 0.05

    @property
    def words(self) -> str:
        """The verdict in a few words."""
        if not self.judged:
            return "not judged"
        if self.loses or self.gains:
            return "loses answers" if self.loses else "gains answers"
        return "no loss shown"


def count_flips(pairs: Sequence[Pair]) -> tuple[list[Flips], list[Flips]]:
    """Return the flips of every pair over all tasks, and by task where there are several."""
    whole = _corrected([(pair, None) for pair in pairs])
    parts = [(pair, task) for pair in pairs for task in pair.tasks if len(pair.tasks) > 1]
    return whole, _corrected(parts)


def _corrected(parts: Sequence[tuple[Pair, str | None]]) -> list[Flips]:
    if not parts:
        return []
    counts = []
    for pair, task in parts:
        of = pair.of(task)
        counts.append((int((pair.broken & of).sum()), int((pair.mended & of).sum())))
    values = [mcnemar(*both) for both in counts]
    made = []
    for (pair, task), (broken, mended), p, corrected in zip(parts, counts, values, holm(values), strict=True):
        of = pair.of(task)
        judged = pair.judged & of
        n = int(judged.sum())
        made.append(
            Flips(
                pair=pair,
                task=task or "all",
                n=int(of.sum()),
                judged=n,
                right_before=int((pair.before & judged).sum()),
                right_after=int((pair.after & judged).sum()),
                broken=broken,
                mended=mended,
                unchanged=int((pair.same & of).sum()),
                p=p,
                p_corrected=float(corrected),
                difference=paired_difference(mended, broken, n),
                smallest=detectable(n),
            )
        )
    return made
