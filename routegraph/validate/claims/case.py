"""A claim, the cases that it is judged by, and the rule that makes one verdict of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.critical.result import ready
from routegraph.stats.bootstrap import interval, resample_weights
from routegraph.stats.intervals import NOWHERE, Interval
from routegraph.stats.proportions import proportion
from routegraph.validate.measure import answers

Array = NDArray[np.float64]
HOLDS, FAILS, UNDECIDED, UNTESTABLE, MIXED = (
    "holds",
    "does not hold",
    "undecided",
    "not testable here",
    "mixed",
)
#: A group of items with a smaller share of right answers at ratio 0 is at floor; fewer items are no group.
FLOOR, LEAST_ITEMS = answers.FLOOR, answers.LEAST
RESAMPLES = 2000
#: Family of a model that nothing tells of.
UNKNOWN = "-"
#: Said once, of all claims.
RULE = (
    "Each case (a model, how it is asked, question-agnostic or question-aware, a policy) is judged by the "
    "test of the claim, on its 95 % interval; an interval that leaves both answers open is 'undecided'. "
    f"Judged are groups of items (a task in a direction, {LEAST_ITEMS} items and more) of which at least "
    f"{FLOOR:g} are right at ratio 0; the others are listed. The claim 'holds', or 'does not hold', where "
    "that is the verdict of all decided cases and at least half of the testable ones are decided; it is "
    "'mixed' where decided cases disagree, and 'undecided' otherwise; so for each family of models, and over "
    "all. Intervals are not corrected for the number of cases. Hallucination, in a claim, is what the paper "
    "counts: wrong replies, neither right nor an abstention."
)


@dataclass(frozen=True)
class Case:
    """One judgement.

    Attributes
    ----------
    where : str
        Model, question-agnostic or not, policy, part of the claim.
    verdict : str
        "holds", "does not hold", "undecided" or "not testable here".
    figure, baseline : str
        What was found, and what to set beside it, each with its interval; where not testable: what is needed.
    main : Interval
        The figure that was judged; NaN where there is none.
    numbers : mapping
        Further figures, JSON-ready.
    family : str
        Of the model, as transformers calls it; "-" where it is not known.
    """

    where: str
    verdict: str
    figure: str
    baseline: str = ""
    main: Interval = NOWHERE
    numbers: Mapping[str, Any] = field(default_factory=dict)
    family: str = UNKNOWN


@dataclass(frozen=True)
class Claim:
    """A claim of the paper with its verdict here.

    Attributes
    ----------
    id, statement : str
        As in the paper, restated.
    test : str
        The rule by which a case is judged.
    figure, baseline : str
        The judged figures of the cases, and what stands beside them.
    verdict : str
        By `RULE`.
    evidence : tuple of Case
    notes : tuple of str
        What belongs to all cases: groups at floor, for instance.
    why : str
        Why the test is a fair reading of the paper.
    """

    id: str
    statement: str
    test: str
    figure: str
    baseline: str
    verdict: str
    evidence: tuple[Case, ...]
    notes: tuple[str, ...] = ()
    why: str = ""

    @property
    def families(self) -> dict[str, str]:
        """The verdict that `RULE` makes of the cases of every family of models, sorted by family."""
        names = sorted({case.family for case in self.evidence if case.family != UNKNOWN})
        return {name: overall([case for case in self.evidence if case.family == name]) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        document = {**asdict(self), "families": self.families}
        for case, found in zip(document["evidence"], self.evidence, strict=True):
            case["main"] = found.main._asdict()
        result: dict[str, Any] = ready(document)
        return result

    def counts(self) -> str:
        """Return how many cases came out how, in words."""
        words = (HOLDS, FAILS, UNDECIDED, UNTESTABLE)
        verdicts = [case.verdict for case in self.evidence]
        return ", ".join(f"{verdicts.count(word)} {word}" for word in words if word in verdicts)


def conclude(
    id: str,
    statement: str,
    test: str,
    figure: str,
    baseline: str,
    cases: Sequence[Case],
    needed: str = "a measurement of the policies chunk or adakv",
    notes: Sequence[str] = (),
    why: str = "",
) -> Claim:
    """Return the claim with the verdict that `RULE` makes of its cases.

    figure, baseline : what the judged figure and the baseline are. needed : what would have to be measured, said
    where there is no case at all.
    """
    listed = tuple(cases) or (Case("-", UNTESTABLE, f"needs {needed}"),)
    told = [
        f"{case.where} {show(case.main)}"
        for case in listed
        if case.verdict != UNTESTABLE and known(case.main)
    ]
    found = f"{figure}: {'; '.join(told)}" if told else listed[0].figure
    return Claim(id, statement, test, found, baseline, overall(listed), listed, tuple(notes), why)


def overall(cases: Sequence[Case]) -> str:
    """Return the verdict that `RULE` makes of cases."""
    testable = [case.verdict for case in cases if case.verdict != UNTESTABLE]
    decided = {verdict for verdict in testable if verdict != UNDECIDED}
    if not testable:
        return UNTESTABLE
    if len(decided) == 2:
        return MIXED
    enough = 2 * (len(testable) - testable.count(UNDECIDED)) >= len(testable)
    return decided.pop() if decided and enough else UNDECIDED


# --- intervals ------------------------------------------------------------------------------------------


def weights(n_items: int, seed: int, resamples: int = RESAMPLES) -> Array:
    """Return weights of items, float64[1 + resamples, n_items]: those of the data, then of bootstrap resamples."""
    return resample_weights(n_items, resamples, np.random.default_rng(seed))


def mean_of(values: ArrayLike, seed: int = 0, lowest: float = -1.0, highest: float = 1.0) -> Interval:
    """Return the mean over items with its bootstrap interval.

    Where all items are equal the bootstrap shows no spread: see `widened`.
    """
    table = np.asarray(values, dtype=float)
    table = table[np.isfinite(table)]
    if not len(table):
        return NOWHERE
    return widened(interval(weights(len(table), seed) @ table), len(table), lowest, highest)


def largest(values: Array) -> Interval:
    """Return the largest of several distances from 0, with an interval that allows for having picked it.

    The largest of resampled values lies above that of the data, since noise adds to it. So all distances get intervals
    that hold together (bootstrap of the largest departure in standard errors), and the largest ends are taken.

    values : float64[1 + resamples, k], signed, those of the data first.
    """
    first, drawn = values[0], values[1:]
    spread = drawn.std(axis=0)
    moved = np.abs(drawn - first)[:, spread > 1e-12] / spread[spread > 1e-12]
    reach = spread * (np.quantile(moved.max(axis=1), 0.95) if moved.size else 0.0)
    size = np.abs(first)
    return Interval(float(size.max()), max(0.0, float((size - reach).max())), float((size + reach).max()))


def widened(found: Interval, n_items: int, lowest: float = -1.0, highest: float = 1.0) -> Interval:
    """Return a mean's interval; of one without spread, as far as unseen items may move it.

    That is one item in 1 / (1 - .025^(1/n)) that differs by 1.
    """
    if found.low != found.high:
        return found
    room = 1 - 0.025 ** (1 / n_items)
    return Interval(found.value, max(lowest, found.value - room), min(highest, found.value + room))


def known(found: Interval) -> bool:
    """Return whether there is a value."""
    return not math.isnan(found.value)


def above(found: Interval, bound: float) -> str:
    """Return "holds" where the whole interval lies above a bound, "does not hold" below it, else "undecided"."""
    if found.low >= bound:
        return HOLDS
    return FAILS if found.high < bound else UNDECIDED


def opposite(verdict: str) -> str:
    """Return the verdict of the claim that says the reverse."""
    return {HOLDS: FAILS, FAILS: HOLDS}.get(verdict, verdict)


def inside(found: Interval, low: float, high: float) -> str:
    """Return "holds" where the whole interval lies between two bounds, "does not hold" where it lies outside."""
    if low <= found.low and found.high <= high:
        return HOLDS
    return FAILS if found.high < low or found.low > high else UNDECIDED


def both(*verdicts: str) -> str:
    """Return "holds" where all do, "does not hold" where one does not."""
    if FAILS in verdicts:
        return FAILS
    return HOLDS if set(verdicts) == {HOLDS} else UNDECIDED


def share_of(counts: int, total: int) -> Interval:
    """Return a share with Wilson's interval; NaN of nothing."""
    return Interval(*proportion(counts, total)) if total else NOWHERE


def items_to_decide(found: Interval, bound: float, n_items: int) -> int:
    """Return how many items would make an interval as narrow as the value's distance from the bound."""
    half = (found.high - found.low) / 2
    distance = abs(found.value - bound)
    if math.isnan(half):
        return 100 * n_items
    return min(100 * n_items, math.ceil(round(n_items * (half / max(distance, 1e-9)) ** 2, 6)))


def would_decide(verdict: str, found: Interval, bound: float, n_items: int) -> str:
    """Return a sentence's end that says how many items would decide; nothing where it is decided."""
    if verdict != UNDECIDED:
        return ""
    need = items_to_decide(found, bound, n_items)
    return f"; {'more than ' if need >= 100 * n_items else 'about '}{max(need, n_items)} items would decide"


def show(found: Interval, digits: int = 2) -> str:
    """Return a value with its interval, .52 [.44, .60]; "-" where there is none."""
    if not known(found):
        return "-"
    ends = (short(end, digits) if not math.isnan(end) else "?" for end in (found.low, found.high))
    return f"{short(found.value, digits)} [{', '.join(ends)}]"


def short(value: float, digits: int = 2) -> str:
    """Return a number without the nought before its point, and without a minus sign before nothing."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("0.", ".", 1) if abs(value) < 1 and text.lstrip("-").startswith("0.") else text
