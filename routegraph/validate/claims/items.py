"""The items that claims are judged by: groups above the floor, those right at ratio 0, and whose model they are of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from routegraph.tables import many
from routegraph.validate.claims.case import FLOOR, LEAST_ITEMS, UNKNOWN, Case, share_of, show
from routegraph.validate.measure.result import Measured
from routegraph.validate.models.sources import MODELS

#: The paper's two policies; claims are judged on them, and others are baselines.
PAPER_POLICIES = ("chunk", "adakv")
BASELINE = "random"
#: Said where nothing is above the floor.
AT_FLOOR = (
    f"all groups are at floor: needs answerable items of a task with at least {FLOOR:g} right at ratio 0"
)


def each(sources: Sequence[Measured], judge: Callable[[Measured], Iterable[Case]]) -> list[Case]:
    """Return the cases of every measurement, each with the family of its model."""
    return [replace(case, family=family_of(found)) for found in sources for case in judge(found)]


def family_of(found: Measured) -> str:
    """Return the family of a measured model: as recorded, else that of the known model of this name, else "-"."""
    return str(found.settings.get("family") or known_family(str(found.settings["model"])))


def known_family(model: str, measured: Sequence[Measured] = ()) -> str:
    """Return the family of a model by its name: as recorded where it was measured, of a known model, else "-"."""
    recorded = [
        str(m.settings["family"]) for m in measured if m.settings["model"] == model and "family" in m.settings
    ]
    return recorded[0] if recorded else MODELS[model].family if model in MODELS else UNKNOWN


def asked_again(found: Measured) -> bool:
    """Return whether the question was asked after the eviction, as in the paper.

    Earlier versions moved it into the cache that may be evicted where scores were to know it.
    """
    return not found.settings["question_aware"] or bool(found.settings.get("asked_again"))


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

    `groups` names each group above the floor, `floor` each other one, with its share of right answers at ratio 0.
    """

    items: Measured | None
    floor: tuple[str, ...]
    groups: tuple[str, ...] = ()

    @cached_property
    def right(self) -> Measured | None:
        """Those right at ratio 0, None where there is none."""
        return None if self.items is None else self.items.only(self.items.right[:, 0, 0])


def standing(found: Measured) -> Standing:
    """Return what is left of a measurement for claims on what eviction does."""
    kept, above, floor = [], [], []
    for name, items in groups(found).items():
        right, n = int(found.right[items, 0, 0].sum()), len(items)
        if n < LEAST_ITEMS:
            floor.append(f"{name} ({many(n, 'item')} {'is' if n == 1 else 'are'} too few)")
        elif right >= FLOOR * n:
            kept.append(items)
            above.append(f"{name} ({right} of {n} right, {show(share_of(right, n))})")
        else:
            floor.append(f"{name} ({right} of {n} right, {show(share_of(right, n))})")
    chosen = np.sort(np.concatenate(kept)) if kept else np.array([], dtype=np.int64)
    return Standing(found.only(chosen) if len(chosen) else None, tuple(floor), tuple(above))


def floors(sources: Sequence[Measured]) -> list[str]:
    """Return a sentence for every measurement with groups at floor."""
    return [f"{label(f)}, at floor: {', '.join(standing(f).floor)}" for f in sources if standing(f).floor]


def family_counts(sources: Sequence[Measured]) -> dict[str, int]:
    """Return how many items above the floor are right at ratio 0, by family; an item asked in two ways counts once."""
    seen: dict[str, set[tuple[str, ...]]] = {}
    for found in sources:
        right = standing(found).right
        key = (str(found.settings["model"]), str(found.settings.get("weights")))
        names = () if right is None else right.ids
        seen.setdefault(family_of(found), set()).update((*key, name) for name in names)
    return {name: len(seen[name]) for name in sorted(seen)}


def label(found: Measured, *more: str) -> str:
    """Return the name of a case: the model, how it was asked, whether scores knew the question, and more."""
    name = str(found.settings.get("label", found.settings["model"]))
    chat = ("chat",) if found.settings.get("chat") and "chat" not in name else ()
    aware = ("question-aware",) if found.settings["question_aware"] else ()
    return ", ".join((name, *chat, *aware, *more))


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
