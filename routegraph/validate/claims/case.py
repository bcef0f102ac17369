"""A claim, the cases that it is judged by, and the rule that makes one verdict of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.critical.result import ready
from routegraph.stats.bootstrap import interval
from routegraph.stats.intervals import NOWHERE, Interval
from routegraph.validate.measure import answers
from routegraph.validate.measure.result import Measured

Array = NDArray[np.float64]
HOLDS, FAILS, UNDECIDED, UNTESTABLE, MIXED = (
    "holds",
    "does not hold",
    "undecided",
    "not testable here",
    "mixed",
)
#: The paper's two policies; claims are judged on them, and others are baselines.
PAPER_POLICIES = ("chunk", "adakv")
BASELINE = "random"
#: A group of items with a smaller share of right answers at ratio 0 is at floor.
FLOOR = answers.FLOOR
RESAMPLES = 2000
#: Said once, of all claims.
RULE = (
    "Each case (a model, question-agnostic or question-aware, a policy) is judged by the test of the claim, on its 95 "
    "% interval; an interval that leaves both answers open is 'undecided'. The claim 'holds', or 'does not hold', "
    "where that is the verdict of all decided cases and at least half of the testable ones are decided; it is 'mixed' "
    "where decided cases disagree, and 'undecided' otherwise. Intervals are not corrected for the number of cases. "
    "Hallucination, in a claim, is what the paper counts: wrong replies, neither right nor an abstention."
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
    """

    where: str
    verdict: str
    figure: str
    baseline: str = ""
    main: Interval = NOWHERE
    numbers: Mapping[str, Any] = field(default_factory=dict)


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
    """

    id: str
    statement: str
    test: str
    figure: str
    baseline: str
    verdict: str
    evidence: tuple[Case, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        document = asdict(self)
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
    return Claim(id, statement, test, found, baseline, overall(listed), listed, tuple(notes))


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
    drawn = np.random.default_rng(seed).multinomial(n_items, np.full(n_items, 1 / n_items), size=resamples)
    return np.concatenate([np.ones((1, n_items)), drawn]) / n_items


def mean_of(values: ArrayLike, seed: int = 0, lowest: float = -1.0, highest: float = 1.0) -> Interval:
    """Return the mean over items with its bootstrap interval.

    Where all items are equal the bootstrap shows no spread: then the interval reaches as far as one item in
    1 / (1 - .025^(1/n)) that differs by 1 could move it.
    """
    table = np.asarray(values, dtype=float)
    table = table[np.isfinite(table)]
    if not len(table):
        return NOWHERE
    found = interval(weights(len(table), seed) @ table)
    if found.low < found.high:
        return found
    room = 1 - 0.025 ** (1 / len(table))
    return Interval(found.value, max(lowest, found.value - room), min(highest, found.value + room))


def known(found: Interval) -> bool:
    """Return whether there is a value."""
    return not math.isnan(found.value)


def above(found: Interval, bound: float) -> str:
    """Return "holds" where the whole interval lies above a bound, "does not hold" below it, else "undecided"."""
    if found.low >= bound:
        return HOLDS
    return FAILS if found.high < bound else UNDECIDED


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


# --- items ----------------------------------------------------------------------------------------------


def task_of(found: Measured, item: int) -> str:
    """Return the task of an item; those of the small language by their own names, with or without "words_"."""
    return found.item_tasks[item].removeprefix("words_")


def group_of(found: Measured, item: int) -> str:
    """Return task and direction of an item."""
    task = task_of(found, item)
    direction = next((tag for tag in found.tags[item] if tag in ("forward", "inverse")), "")
    return " ".join(filter(None, (task, direction if direction != task else "")))


def hops_of(found: Measured, item: int) -> int:
    """Return how many links an answer takes: what its tags or its task say, 1 by default."""
    for tag in found.tags[item]:
        count, _, word = tag.partition(" ")
        if word in ("hop", "hops") and count.isdigit():
            return int(count)
    return 2 if task_of(found, item).endswith("two_hop") else 1


def groups(found: Measured) -> dict[str, NDArray[np.int64]]:
    """Return the numbers of the answerable items of every task and direction."""
    names = [group_of(found, i) if found.answerable[i] else "" for i in range(len(found.ids))]
    return {
        name: np.array([i for i, own in enumerate(names) if own == name])
        for name in dict.fromkeys(names)
        if name
    }


@dataclass(frozen=True, eq=False)
class Standing:
    """The answerable items of the groups that are not at floor (`items`, None where there is none), and the others.

    `floor` names each group at floor with its share of right answers at ratio 0.
    """

    items: Measured | None
    floor: tuple[str, ...]


def standing(found: Measured) -> Standing:
    """Return what is left of a measurement for claims about cliffs."""
    kept, floor = [], []
    for name, items in groups(found).items():
        right = int(found.right[items, 0, 0].sum())
        if right >= FLOOR * len(items):
            kept.append(items)
        else:
            floor.append(f"{name} ({right} of {len(items)} right)")
    chosen = np.sort(np.concatenate(kept)) if kept else np.array([], dtype=np.int64)
    return Standing(found.only(chosen) if len(chosen) else None, tuple(floor))


def label(found: Measured, *more: str) -> str:
    """Return the name of a case: the model, whether scores knew the question, and more."""
    aware = ("question-aware",) if found.settings["question_aware"] else ()
    return ", ".join((str(found.settings.get("label", found.settings["model"])), *aware, *more))


def judged(found: Measured) -> list[str]:
    """Return the policies of a measurement that claims are judged on."""
    return [policy for policy in PAPER_POLICIES if policy in found.policies]


def nearest(found: Measured, ratio: float, within: float = 0.051) -> int | None:
    """Return the place of the ratio nearest to one; None where none is near."""
    place = int(np.abs(found.ratios - ratio).argmin())
    return place if abs(found.ratios[place] - ratio) <= within else None


def between(found: Measured, low: float, high: float) -> NDArray[np.bool_]:
    """Return which ratios lie between two, ends in."""
    return np.asarray((found.ratios >= low - 1e-9) & (found.ratios <= high + 1e-9))


def built_in(found: Measured, policy: str) -> str:
    """Return the ratios of the cliffs that a policy's code builds in, in words."""
    cliffs = sorted(set(found.cliffs[policy].values()))
    return (
        "built in at " + ", ".join(f"{cliff:.3f}".lstrip("0") for cliff in cliffs)
        if cliffs
        else "none built in"
    )
