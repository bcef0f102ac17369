"""A comparison in words and tables: tokens gone, reach, and where answers fail."""

from __future__ import annotations

import math

from routegraph.stats.intervals import Interval
from routegraph.tables import Block, Grid, all_of, compact, interval, many, points, signed
from routegraph.validate.compare.failure import KINDS, Failure, apart
from routegraph.validate.compare.policy import PolicyComparison, half_points
from routegraph.validate.compare.prediction import AxisComparison
from routegraph.validate.compare.reach import TOKENS


def policy_blocks(found: PolicyComparison, with_answers: bool, with_foretold: bool = False) -> list[Block]:
    """Return the tables of one policy and what they mean; with answers: where they fail, or are expected to."""
    blocks: list[Block] = [*comparison_grids(found), points(comparison_reading(found))]
    if with_answers:
        blocks += [*failure_grids(found), points(failure_reading(found))]
    if with_foretold:
        blocks.append(foretold_grid(found))
    return blocks


COMPARISON_FOOTNOTE = (
    "Half point: ratio at which half of the tokens are gone, or out of reach; 95 % interval by bootstrap over "
    "prompts; 0.488(12) is 0.488 with a standard error of 0.012 over prompts. 'All' is the eviction rate, 'answer' "
    "GER, of all prompts; 'evictable' leaves out sinks, on the held-out prompts. Every prediction is for those "
    "evictable tokens of prompts it has not seen ('shifted copula', 'simulated answers': for their answer tokens); "
    "rmse over ratios .6-.98 that no fit used. 'simulated': scores and reads drawn from what was fitted to the other "
    "half of the prompts; 'uniform': independent scores and uniform reads, the baseline; 'theory': measured copula "
    "for tokens gone, cavity for reach. Reach: tokens joined to the prompt's last token by reads heavier than the "
    "weight named, sinks in. 'columns': all tokens are cache rows, and a dead slot is gone for every query; 'decode': "
    "the last tokens stand for the question, and a dead slot is gone for them alone. Structural cliffs are put "
    "there by protected rows, not by the model."
)


def comparison_grids(found: PolicyComparison, at: tuple[float, ...] = (0.8, 0.9, 0.95)) -> list[Grid]:
    """Return one table a head axis, and one of all half points."""
    return [*(_axis_grid(found, axis, at) for axis in found.axes.values()), half_point_grid(found)]


def half_point_grid(found: PolicyComparison) -> Grid:
    """Return the half points read off held-out prompts, and how far off each prediction is."""
    rows = []
    for over, axis in found.axes.items():
        where = "all slots" if over == "model" else "a layer"
        for observed, suffix, theory in (
            ("evictable tokens", "", "measured copula"),
            ("answer tokens, held out", " answers", "shifted copula"),
        ):
            if observed in axis.observed:
                names = (f"simulated{suffix}", f"uniform{suffix}", theory)
                simulated, uniform, predicted = (axis.difference(name) for name in names)
                label = f"{where}{suffix}"
                rows.append(_half_point_row(label, axis.half(observed), simulated, uniform, predicted))
    for reach in found.reach:
        eps = f"{reach.eps:g}".removeprefix("0")
        name = f"{reach.prune} {eps}" + (" answers" if reach.tokens == TOKENS[1] else "")
        cavity = reach.difference("cavity") if "cavity" in reach.predicted else None
        simulated, uniform = reach.difference("simulated"), reach.difference("uniform")
        rows.append(_half_point_row(name, reach.half(), simulated, uniform, cavity))
    what = "gone (and reached, by pruning and weight)" if found.reach else "gone"
    return Grid(
        ["half point", "read off", "simulated - read off", "uniform", "theory"],
        rows,
        title=f"{found.policy}: half points of tokens {what}",
    )


def _half_point_row(
    name: str, read: Interval, simulated: Interval, uniform: Interval, theory: Interval | None
) -> list[str]:
    short = [
        "-" if found is None else signed(found._replace(low=math.nan, high=math.nan))
        for found in (uniform, theory)
    ]
    return [name, interval(read, 3), signed(simulated), *short]


def _axis_grid(found: PolicyComparison, axis: AxisComparison, at: tuple[float, ...]) -> Grid:
    nearest = (min(range(len(axis.ratios)), key=lambda i: abs(axis.ratios[i] - ratio)) for ratio in at)
    columns = list(dict.fromkeys(nearest))  # of few ratios one may be the nearest to several
    rows = []
    for name in ("all tokens", "answer tokens", "evictable tokens"):
        if name not in axis.observed:
            continue
        means, errors = axis.observed[name].mean(axis=0), axis.stderr(name)
        cells = [compact(means[i], errors[i], axis.prompts(name)) for i in columns]
        rows.append([f"read off, {name.removesuffix(' tokens')}", *cells, interval(axis.half(name), 3), ""])
    for name, prediction in axis.predicted.items():
        cells = [f"{prediction.mean[i]:.3f}" for i in columns]
        rows.append([name, *cells, interval(axis.half(name), 3), _digits(axis.rmse(name))])
    where = (
        all_of(axis.slots, "slot")
        if axis.over == "model"
        else f"{all_of(axis.slots, 'head')} of a layer, mean"
    )
    return Grid(
        ["gone", *(f"{axis.ratios[i]:g}" for i in columns), "half point", "rmse"],
        rows,
        title=f"{found.policy} ({found.scorer}), head axis {axis.over!r}: gone from {where}",
    )


def comparison_reading(found: PolicyComparison) -> list[str]:
    """Return sentences that say what the tables of one policy mean."""
    axis = found.axes["model"]
    lines = _slots_reading(axis)
    told = [
        f"{interval(axis.difference(name), 3)} by {words}"
        for name, words in (("measured copula", "the measured copula"), ("independent", "independent slots"))
        if not math.isnan(axis.difference(name).value)
    ]
    if told:
        rmse = {
            name: axis.rmse(name) for name in ("independent", "one factor", "measured copula", "simulated")
        }
        judged = {name: value for name, value in rmse.items() if not math.isnan(value)}
        best = f"; smallest rmse: {min(judged, key=lambda name: judged[name])}" if judged else ""
        lines.append(
            f"Predicted minus read-off half point, {all_of(axis.slots, 'slot')}: {', '.join(told)}{best}."
        )
    else:
        lines.append(
            "Half points cannot be set side by side: at the ratios looked at one curve or the other does not cross "
            "one half."
        )
    lines += _reach_reading(found)
    lines += [f"Structural cliff at {ratio:.4f}: {name}." for name, ratio in found.cliffs.items()]
    return lines


def _slots_reading(axis: AxisComparison) -> list[str]:
    """Return a sentence on how many independent slots would lose tokens as these do; none of a single slot."""
    inside = [
        (ratio, slots)
        for ratio, slots in zip(axis.ratios, axis.effective_slots(), strict=True)
        if not math.isnan(slots) and ratio >= 0.8
    ]
    if not inside or axis.slots == 1:
        return []
    low, high = min(slots for _, slots in inside), max(slots for _, slots in inside)
    span = f"{low:.1f} to {high:.1f}" if f"{low:.1f}" != f"{high:.1f}" else f"{low:.1f}"
    first, last = inside[0][0], inside[-1][0]
    at = f"from ratio {first:g} to {last:g}" if first != last else f"at ratio {first:g}"
    if max(abs(low - axis.slots), abs(high - axis.slots)) < 0.05 * axis.slots:
        why = f"about as tokens die in {axis.slots} independent slots"
    elif high < axis.slots:
        why = f"heads agree, so tokens die sooner than {axis.slots} independent slots would let them"
    elif low > axis.slots:
        why = f"what one head drops others keep, so tokens last longer than in {axis.slots} independent slots"
    else:
        why = f"about as tokens die in {axis.slots} independent slots"
    return [f"Effective slots ln GER / ln p {at}: {span} of {axis.slots}; {why}."]


def _digits(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _reach_reading(found: PolicyComparison) -> list[str]:
    columns = [reach for reach in found.reach if reach.prune == "columns" and reach.tokens == TOKENS[0]]
    if not columns:
        return []
    told = []
    for name in ("simulated", "uniform"):
        known = [gap for reach in columns if not math.isnan(gap := abs(reach.difference(name).value))]
        some = f" where both have one ({len(known)} of {len(columns)})" if len(known) < len(columns) else ""
        told.append(
            f"{name} half points lie within {max(known):.3f} of those read off{some}" if known else ""
        )
    weights = ", ".join(f"{reach.eps:g}" for reach in columns)
    nearness = ", ".join(filter(None, told)) or (
        "half points cannot be set side by side, for one curve or the other does not cross one half"
    )
    return [
        f"Reach of all context tokens, columns, weights above {weights}: {nearness}.",
        "Reach under decode falls late or not at all: reads among cache rows stay whole, so that one surviving read "
        "of the question by a row beyond the sinks opens most of the context again.",
    ]


FAILURES_FOOTNOTE = (
    "Measured: wrong (neither right nor an abstention), the midpoint of a logistic from one level of the rate to "
    "another (profile likelihood); "
    "'flat' is no change beyond chance and has no critical ratio, 'gradual' no cliff: then the midpoint is a "
    "description, no threshold; 'up', 'down': which way the rate goes there. Accuracy, of the items right at ratio "
    "0: the ratio from which fewer than half of them are right. A half point of tokens gone or out of reach is "
    "another quantity: nothing says that answers fail where half of their tokens are gone, and the differences say "
    "how far apart the two lie. 95 % intervals, items and prompts resampled apart; those of differences are put "
    "together from the two."
)


FORETOLD_FOOTNOTE = (
    "Predicted: from the full cache, before anything is decoded under an eviction, by what the replies rest on; the 95 "
    "% interval holds what is known of the model: see routegraph predict."
)


def foretold_grid(found: PolicyComparison) -> Grid:
    """Return by which ratio answers are expected to break, beside where they do as far as that was measured."""
    told, measured = found.foretold, found.measured
    shown = "-"
    if measured is not None and measured.known:
        shown = interval(measured.critical("accuracy"), 3)
    row = ["-", "-", "-"] if told is None else [interval(told.half, 3), str(told.prompts), told.calibrated_on]
    columns = ["half of the answers lost, predicted", "prompts", "calibrated on", "measured"]
    return Grid(columns, [[*row, shown]], title=f"{found.policy}: where answers are expected to break")


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
    columns = ["half point", "by", "ratio", "wrong - it", "accuracy - it"]
    title = f"{found.policy}: measured minus half points of {of} tokens gone (reached)"
    return [
        _measured_grid(found.policy, [_wrong(measured), _accuracy(measured)]),
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
        f"Measured on {many(measured.items, 'item')}, {measured.shared} of them prompts of this trace; "
        f"{measured.known} are right at ratio 0."
    ]
    axis = found.axes["model"]
    name = "answer tokens" if "answer tokens" in axis.observed else "evictable tokens"
    half = measured.critical("accuracy")
    if not math.isnan(half.value):
        near = min(range(len(axis.ratios)), key=lambda i: abs(axis.ratios[i] - half.value))
        gone, error = axis.observed[name].mean(axis=0)[near], axis.stderr(name)[near]
        lines.append(
            f"Where half of the right answers are lost, {compact(gone, error, axis.prompts(name))} of the "
            f"{name} are gone from {all_of(axis.slots, 'slot')}."
        )
    return lines


def _measured_grid(policy: str, rows: list[list[str]]) -> Grid:
    columns = ["measured", "critical, half", "% at 0", "% at most", "verdict"]
    return Grid(columns, rows, title=f"{policy}: where answers fail")


def _wrong(measured: Failure) -> list[str]:
    rates = measured.wrong.rates
    shown = [
        f"{100 * rates.rate[k]:.0f} [{100 * rates.low[k]:.0f}, {100 * rates.high[k]:.0f}]"
        for k in (0, int(rates.rate.argmax()))
    ]
    ratio = measured.critical("wrong")
    way = {True: ", up", False: ", down", None: ""}[measured.wrong.rises]
    return [
        "wrong",
        "-" if math.isnan(ratio.value) else interval(ratio, 3),
        *shown,
        f"{measured.wrong.verdict}{way}",
    ]


def _accuracy(measured: Failure) -> list[str]:
    if not measured.known:
        return ["accuracy", "-", "-", "-", "none right at 0"]
    return ["accuracy", interval(measured.critical("accuracy"), 3), "100", "100", ""]
