"""What the paper draws, as numbers side by side: what is kept at which ratio, where and how steeply answers fall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from routegraph.tables import Grid
from routegraph.validate.claims.case import share_of, show
from routegraph.validate.claims.cliff import NARROW, largest_kept, rise_of, too_few_wrong
from routegraph.validate.claims.items import (
    asked_again,
    built_in,
    family_of,
    judged,
    label,
    nearest,
    standing,
)
from routegraph.validate.measure.result import Measured

#: Ratios at which the share kept is shown.
SHOWN = (0.2, 0.4, 0.6, 0.8, 0.9)


def grids(measured: Sequence[Measured]) -> list[Grid]:
    """Return three tables, of what was judged and of its curves; none of no measurement."""
    used = sorted((found for found in measured if asked_again(found)), key=family_of)
    return [judged_grid(used), kept_grid(used), fall_grid(used)] if used else []


def judged_grid(measured: Sequence[Measured]) -> Grid:
    """Return a row a measurement: what is right at ratio 0, and which groups are above the floor."""
    rows = []
    for found in measured:
        stands = standing(found)
        right = int(found.right[found.answerable, 0, 0].sum())
        unknown = ~found.answerable
        abstained = share_of(int(found.right[unknown, 0, 0].sum()), int(unknown.sum()))
        rows.append(
            [
                family_of(found),
                label(found),
                f"{right} of {int(found.answerable.sum())}",
                "0" if stands.right is None else str(len(stands.right.ids)),
                f"{show(abstained)} of {unknown.sum()}" if unknown.any() else "-",
                "; ".join(stands.groups) or "none",
                "; ".join(stands.floor) or "none",
            ]
        )
    columns = [
        "family",
        "model",
        "right at 0",
        "judged",
        "abstained at 0",
        "groups above the floor",
        "at floor",
    ]
    return Grid(columns, rows, "What is judged: items right at ratio 0", right_from=7)


def kept_grid(measured: Sequence[Measured]) -> Grid:
    """Return a row a measurement and policy: share kept by ratio, and the margin of C1."""
    rows = []
    for found, right, policy in _curves(measured):
        still = right.right[:, right.place_of(policy)]
        at = [nearest(right, ratio, 0.011) for ratio in SHOWN]
        kept = ["-" if k is None else show(share_of(int(still[:, k].sum()), len(still))) for k in at]
        rows.append([family_of(found), label(found, policy), *kept, show(largest_kept(right, policy), 1)])
    columns = ["family", "case", *(f"{ratio:g}".lstrip("0") for ratio in SHOWN), "largest with .9 kept"]
    return Grid(
        columns, rows, "C1's margin: still right, of the items right at ratio 0, by ratio", right_from=8
    )


def fall_grid(measured: Sequence[Measured]) -> Grid:
    """Return a row a measurement and policy: place and width of the fall of accuracy and the rise of wrong replies."""
    rows = []
    for found, right, policy in _curves(measured):
        places = [show(value, 3) for value in rise_of(right, policy, "lost")]
        few = too_few_wrong(right, policy)
        places += ["too few", "-"] if few else [show(value, 3) for value in rise_of(right, policy)]
        rows.append([family_of(found), label(found, policy), *places, built_in(found, policy)])
    columns = [
        "family",
        "case",
        "half lost at",
        "width of the fall",
        "half of the wrong at",
        "width of the rise",
    ]
    title = f"C2's shape: where and how steeply answers fall (the paper: near .9; a cliff: width below {NARROW:g})"
    return Grid([*columns, "cliffs of the code"], rows, title, right_from=7)


def _curves(measured: Sequence[Measured]) -> Iterator[tuple[Measured, Measured, str]]:
    """Yield measurements that are not at floor, their items right at ratio 0, and each policy that is judged."""
    for found in measured:
        right = standing(found).right
        if right is not None:
            yield from ((found, right, policy) for policy in judged(found))
