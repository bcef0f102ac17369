"""Where answers fail beside where tokens are gone: the measured column of a comparison, in tables and words."""

from __future__ import annotations

import math

from routegraph.validate.compare import PolicyComparison
from routegraph.validate.measured_compare import KINDS, Failure, apart, half_points
from routegraph.views import Grid, compact, interval, signed

FAILURES_FOOTNOTE = (
    "Measured: hallucination, the midpoint of a logistic from one level of the rate to another (profile likelihood); "
    "'flat' is no change beyond chance and has no critical ratio, 'gradual' no cliff: then the midpoint is a "
    "description, no threshold; 'up', 'down': which way the rate goes there. Accuracy, of the items right at ratio "
    "0: the ratio from which fewer than half of them are right. A half point of tokens gone or out of reach is "
    "another quantity: nothing says that answers fail where half of their tokens are gone, and the differences say "
    "how far apart the two lie. 95 % intervals, items and prompts resampled apart; those of differences are put "
    "together from the two."
)


def failure_grids(found: PolicyComparison) -> list[Grid]:
    """Return what was measured of a policy, and how far that is from every half point; '-' where it was not."""
    measured = found.measured
    if measured is None:
        return [_measured_grid(found.policy, [[kind, "-", "-", "-", "-"] for kind in KINDS])]
    halves = list(half_points(found))
    of = "answer" if any(tokens == "answer" for _, tokens, _, _ in halves) else "evictable"
    critical = [measured.critical(kind) for kind in KINDS]
    rows = [
        [_short(quantity), source, interval(half, 3), *(signed(apart(ratio, half), 2) for ratio in critical)]
        for quantity, tokens, source, half in halves
        if tokens == of
    ]
    columns = ["half point", "by", "ratio", "halluc. - it", "accuracy - it"]
    title = f"{found.policy}: measured minus half points of {of} tokens gone (reached)"
    return [
        _measured_grid(found.policy, [_hallucination(measured), _accuracy(measured)]),
        Grid(columns, rows, title=title, right_from=2),
    ]


def _short(quantity: str) -> str:
    """Return "all slots" of "gone, all slots" and "decode .03" of "reach, decode, weight > 0.03"."""
    return (
        quantity.removeprefix("gone, ")
        .removeprefix("reach, ")
        .replace(", weight > 0.", " .")
        .replace(", weight >", "")
    )


def failure_reading(found: PolicyComparison) -> list[str]:
    """Return sentences that say what the measured figures mean."""
    measured = found.measured
    if measured is None:
        return ["Answers under this policy were not measured."]
    lines = [
        f"Measured on {measured.items} items, {measured.shared} of them prompts of this trace; "
        f"{len(measured.kept)} are right at ratio 0."
    ]
    axis = found.axes["model"]
    name = "answer tokens" if "answer tokens" in axis.observed else "evictable tokens"
    half = measured.critical("accuracy")
    if not math.isnan(half.value):
        near = min(range(len(axis.ratios)), key=lambda i: abs(axis.ratios[i] - half.value))
        gone = axis.observed[name].mean(axis=0)[near]
        error = axis.observed[name].std(axis=0, ddof=1)[near] / math.sqrt(len(axis.observed[name]))
        lines.append(
            f"Where half of the right answers are lost, {compact(gone, error, len(axis.observed[name]))} of the "
            f"{name} are gone from all {axis.slots} slots."
        )
    return lines


def _measured_grid(policy: str, rows: list[list[str]]) -> Grid:
    columns = ["measured", "critical, half", "% at 0", "% at most", "verdict"]
    return Grid(columns, rows, title=f"{policy}: where answers fail")


def _hallucination(measured: Failure) -> list[str]:
    rates = measured.hallucination
    shown = [
        f"{100 * rates.rate[k]:.0f} [{100 * rates.low[k]:.0f}, {100 * rates.high[k]:.0f}]"
        for k in (0, int(rates.rate.argmax()))
    ]
    ratio = measured.critical("hallucination")
    way = {True: ", up", False: ", down", None: ""}[measured.rises]
    return [
        "hallucination",
        "-" if math.isnan(ratio.value) else interval(ratio, 3),
        *shown,
        f"{measured.verdict}{way}",
    ]


def _accuracy(measured: Failure) -> list[str]:
    if not len(measured.kept):
        return ["accuracy", "-", "-", "-", "none right at 0"]
    return ["accuracy", interval(measured.critical("accuracy"), 3), "100", "100", ""]
