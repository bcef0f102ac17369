"""What pairs of runs give away: presses that never fired, flips that means hide, rising curves, other items."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from routegraph.stats.certified import holm
from routegraph.stats.paired import mcnemar
from routegraph.tables import all_of, many
from routegraph.validate.audit.flips import Flips
from routegraph.validate.audit.pairs import Pair, set_beside
from routegraph.validate.audit.runs import Finding, Run

#: A mean hides flips where there are so many, of so large a share of the items, and at most half of them are left net.
_FEWEST, _SHARE = 5, 0.05


def idle(pairs: Sequence[Pair]) -> list[Finding]:
    """Tell of compressed runs that say everywhere, letter by letter, what the uncompressed run says."""
    found = []
    for pair in pairs:
        if not pair.idle:
            continue
        texts, verb = all_of(len(pair.keys), "text"), "equals that" if len(pair.keys) == 1 else "equal those"
        said = f"{pair.run.name}: {texts} {verb} of the uncompressed run, letter by letter"
        if pair.unproven:
            said += (
                f". Either the press never fired, or {pair.run.ratio:g} of the cache can go without a trace; "
                "nothing is certified on it"
            )
        found.append(Finding("idle", said + ".", (pair.run.name,), pair.unproven))
    return found


def reruns(pairs: Sequence[Pair]) -> list[Finding]:
    """Note how much changes from one uncompressed run to another: that much is no work of a press."""
    found = []
    for pair in pairs:
        if pair.run.ratio > 0 or pair.same.all():
            continue
        changed = int((~pair.same).sum())
        text = (
            f"{pair.run.name} is uncompressed, and differs from {pair.base.name} in {changed} of {len(pair.keys)} "
            f"texts ({many(int(pair.broken.sum()), 'answer')} broken, {int(pair.mended.sum())} mended): so much "
            "changes without any compression."
        )
        found.append(Finding("rerun", text, (pair.run.name,), False))
    return found


def hidden(rows: Sequence[Flips]) -> list[Finding]:
    """Warn of means that hide many flips: answers break and are mended, and the mean hardly moves."""
    found = []
    for row in rows:
        flips, net = row.broken + row.mended, abs(row.broken - row.mended)
        if row.pair.run.ratio > 0 and flips >= max(_FEWEST, _SHARE * row.judged) and 2 * net <= flips:
            text = (
                f"{row.pair.run.name}: the mean hides flips. {row.broken} of {row.judged} answers break and "
                f"{row.mended} are mended, while the number right goes from {row.right_before} to "
                f"{row.right_after}."
            )
            found.append(Finding("flips", text, (row.pair.run.name,)))
    return found


def items(pairs: Sequence[Pair]) -> list[Finding]:
    """Warn of runs with other items than their uncompressed run."""
    found = []
    for pair in pairs:
        base, own = pair.dropped
        if not base and not own:
            continue
        text = (
            f"{pair.run.name} and {pair.base.name} have different items: {many(len(pair.keys), 'common one')} are "
            f"paired, {base} only of the uncompressed run and {own} only of the other are left out."
        )
        found.append(Finding("items", text, (pair.run.name,)))
    return found


def curve_of(pairs: Sequence[Pair], run: Run) -> list[Pair]:
    """Return the pairs of the same press, data set and model that can be trusted to be at their ratio, by ratio."""
    return sorted(
        (pair for pair in pairs if pair.run.curve == run.curve and pair.run.ratio > 0 and pair.run.trusted),
        key=lambda pair: pair.run.ratio,
    )


def curves(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Return all curves: the pairs of each press, data set and model, by ratio."""
    firsts = {pair.run.curve: pair.run for pair in pairs if pair.run.ratio > 0}
    return [curve for run in firsts.values() if (curve := curve_of(pairs, run))]


def rises(pairs: Sequence[Pair]) -> list[Finding]:
    """Tell where more is right at a larger ratio, beyond chance or not.

    Neighbouring ratios are compared on their common items by McNemar's exact test, corrected (Holm) for all neighbours
    of all curves.
    """
    neighbours = [set_beside(low.run, high.run) for curve in curves(pairs) for low, high in pairwise(curve)]
    if not neighbours:
        return []
    counts = [(int(pair.mended.sum()), int(pair.broken.sum())) for pair in neighbours]
    corrected = holm([mcnemar(*both) for both in counts])
    found = []
    for pair, (up, down), p in zip(neighbours, counts, corrected, strict=True):
        if up <= down:
            continue
        said = (
            f"{pair.run.scope.words}, {pair.run.label}: more is right at ratio {pair.run.ratio:g} than at "
            f"{pair.base.ratio:g} (up {up}, down {down}, p = {p:.2g} corrected for "
            f"{many(len(neighbours), 'comparison')})"
        )
        beyond = bool(p < 0.05)
        end = (
            ": beyond chance, so the curve really rises, or the runs differ in more than their ratio."
            if beyond
            else ": within chance."
        )
        found.append(Finding("rise", said + end, (pair.base.name, pair.run.name), beyond))
    return found
