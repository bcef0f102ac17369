"""What a comparison found, in at most three plain sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from routegraph.stats.intervals import Interval
from routegraph.tables import all_of, interval, many
from routegraph.validate.compare.policy import PolicyComparison
from routegraph.validate.compare.prediction import AxisComparison

#: Which curve is spoken of, the one its predictions are judged on, and theory and simulation of it.
_ANSWERS = ("answer tokens", "answer tokens, held out", "shifted copula", "simulated answers")
_TOKENS = ("evictable tokens", "evictable tokens", "measured copula", "simulated")


def finding(policies: Mapping[str, PolicyComparison]) -> list[str]:
    """Return where half of the answer's tokens are gone, how near theory and simulation come, where answers are lost.

    Parameters
    ----------
    policies : mapping of str to PolicyComparison
        Of several, the one that keeps the tokens longest and the one that loses them first are spoken of.

    Returns
    -------
    list of str
        At most three sentences; none where nothing was compared.
    """
    if not policies:
        return []
    told = longest_and_shortest(list(policies.values()))
    return [_gone(told, len(policies)), _agreement(told), _answers(told, list(policies.values()))]


def longest_and_shortest(policies: Sequence[PolicyComparison]) -> list[PolicyComparison]:
    """Return the policy that keeps the tokens longest and the one that loses them first; of up to two, both."""
    ordered = sorted(policies, key=lambda found: -_place(found.axes["model"]))
    return ordered if len(ordered) < 3 else [ordered[0], ordered[-1]]


def _names(axis: AxisComparison) -> tuple[str, str, str, str]:
    return _ANSWERS if _ANSWERS[0] in axis.observed else _TOKENS


def _place(axis: AxisComparison) -> float:
    """Return the half point as a number to sort by: beyond the last ratio where half is never gone."""
    name = _names(axis)[0]
    value = axis.half(name).value
    if not math.isnan(value):
        return value
    return -1.0 if axis.observed[name].mean(axis=0)[0] > 0.5 else 2.0


def _where(axis: AxisComparison) -> str:
    """Return at which ratio half of the tokens are gone, in words."""
    half = axis.half(_names(axis)[0])
    if not math.isnan(half.value):
        return f"at ratio {interval(half, 3)}"
    if _place(axis) < 0:
        return f"already at the smallest ratio looked at, {axis.ratios[0]:g}"
    return f"at no ratio up to the largest looked at, {axis.ratios[-1]:g}"


def _gone(told: Sequence[PolicyComparison], compared: int) -> str:
    model, layer = told[0].axes["model"], told[0].axes["layer"]
    what = "the answer's tokens" if _names(model) is _ANSWERS else "the tokens that may be evicted"
    slots, heads = all_of(model.slots, "slot"), all_of(layer.slots, "head")
    roles = ("", "")
    if compared > 2:
        roles = (
            f", of {compared} policies the one that keeps them longest,",
            ", the one that loses them first,",
        )
    parts = []
    for k, (found, role) in enumerate(zip(told, roles, strict=False)):
        by_model, by_layer = (_where(found.axes[over]) for over in ("model", "layer"))
        if k:
            parts.append(f"under {found.policy}{role} {by_model} and {by_layer}")
        else:
            parts.append(
                f"Under {found.policy}{role} half of {what} are gone from {slots}, those of every layer and head, "
                f"{by_model}, and from {heads} of a layer (mean over layers) {by_layer}"
            )
    prompts = model.prompts(_names(model)[0])
    return f"{'; '.join(parts)} ({many(prompts, 'prompt')}{', 95 % intervals' if prompts > 1 else ''})."


def _agreement(told: Sequence[PolicyComparison]) -> str:
    """Return within how much theory and simulation meet what was read off held-out prompts."""
    parts = []
    for k, source in ((2, "theory"), (3, "simulation")):
        gaps = [
            found.axes[over].difference(_names(found.axes[over])[k])
            for found in told
            for over in ("model", "layer")
            if _names(found.axes[over])[k] in found.axes[over].predicted
        ]
        known = [gap for gap in gaps if not math.isnan(gap.value)]
        if not known:
            parts.append(f"{source} cannot be set beside them")
            continue
        largest = max(abs(gap.value) for gap in known)
        error = "more than chance explains" if any(map(_beyond, known)) else "no more than chance explains"
        some = f"as far as both have one, {len(known)} of {len(gaps)}, " if len(known) < len(gaps) else ""
        of = "" if any("comes within" in part for part in parts) else " of these ratios"
        verb = "comes within" if of else "within"
        parts.append(f"{source} {verb} {largest:.3f}{of} ({some}{error})")
    return f"On prompts that they were not fitted to, {' and '.join(parts)}."


def _beyond(gap: Interval) -> bool:
    """Return whether the interval of a difference leaves out 0."""
    return bool(gap.low > 0 or gap.high < 0)


def _answers(told: Sequence[PolicyComparison], policies: Sequence[PolicyComparison]) -> str:
    """Return where half of the answers are lost, or are expected to be, and that this is another quantity."""
    asked = [found for found in policies if found.measured is not None]
    measured = [found for found in [*told, *policies] if found.measured is not None and found.measured.known]
    foretold = [found for found in [*told, *policies] if found.foretold is not None]
    measured, foretold = (list(dict.fromkeys(some))[: max(len(told), 1)] for some in (measured, foretold))
    another = "another quantity than where tokens are gone"
    if measured:
        parts = []
        for found in measured:
            assert found.measured is not None
            half = found.measured.critical("accuracy")
            lost = (
                f"fewer than half are lost up to ratio {found.measured.ratios[-1]:g}"
                if math.isnan(half.value)
                else f"half are lost by ratio {interval(half, 3)}"
            )
            parts.append(
                f"under {found.policy} {lost} (of {found.measured.known} right with nothing removed)"
            )
        return f"Of the answers themselves, {' and '.join(parts)}: {another}."
    if foretold and not asked:
        parts = []
        for found in foretold:
            assert found.foretold is not None
            half = found.foretold.half
            lost = (
                f"fewer than half up to ratio {found.foretold.ratios[-1]:g}"
                if math.isnan(half.value)
                else f"half by ratio {interval(half, 3)}"
            )
            parts.append(f"{lost} under {found.policy}")
        return f"Of the answers themselves, {' and '.join(parts)} are expected to be lost: {another}."
    if asked:
        return "No question was answered rightly with nothing removed, so that no answer could be lost."
    return f"How often answers still hold is {another}, and was not measured here."
