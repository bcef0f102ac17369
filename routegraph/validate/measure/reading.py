"""What a measurement says, in sentences that a reader can act on."""

from __future__ import annotations

import numpy as np

from routegraph.critical.points import half_point
from routegraph.stats.intervals import Interval
from routegraph.survival import n_kept
from routegraph.tables import many
from routegraph.validate.measure.answers import FLOOR, LEAST, Answers
from routegraph.validate.measure.bits import bits_sentence
from routegraph.validate.measure.decoded import decoded_sentences
from routegraph.validate.prompts.tokens import set_aside

NOTE = (
    "Keeps what it knew: at this ratio and all smaller ones asked, accuracy is not below the 95 % interval of that at "
    "ratio 0. Still right: of the items right at ratio 0. Half are lost: interpolated between the ratios asked, 95 % "
    "bootstrap over items."
)


def reading(found: Answers) -> list[str]:
    """Return accuracy at ratio 0, a warning where it is low, and how far every policy keeps it."""
    low = at_floor(found)
    left = found.only([own not in low for own in found.item_tasks]) if len(low) < len(found.tasks) else None
    if left is None or _right(left) < FLOOR * len(left.ids):
        low, left = found.tasks, None
    before = " and the cache as it is" if found.bits else ""
    sentences = [f"Right at ratio 0, with nothing removed{before}: {_share(found)}."]
    sentences += [*([bits_sentence(found)] if found.bits else []), *decoded_sentences(found), *caveats(found)]
    if left is None:
        sentences.append("Warning: that is at the floor: nothing about compression can be read off.")
        return sentences
    if low:
        named = ", ".join(f"{task} ({_right(found, task)} of {found.task_sizes[task]} right)" for task in low)
        sentences.append(
            f"Warning: at the floor, where nothing about compression can be read off, and left out below: {named}."
        )
    return sentences + [policy_sentence(left, policy) for policy in found.policies if len(found.apart) > 1]


def caveats(found: Answers) -> list[str]:
    """Return what a reader must know of the replies that were counted: prompts set aside, replies cut short."""
    told = []
    if found.aside:
        which = set_aside(found.aside, len(found.ids) + len(found.aside))
        told.append(f"Warning: {which}; no figure counts them.")
    if found.cut is not None:
        wrong = np.array(~found.right)
        wrong[:, 1:, : 1 + bool(found.bits)] = False  # with nothing removed, all policies give one reply
        cut = int((wrong & found.cut).sum())
        if cut:
            told.append(
                f"Warning: {cut} of {int(wrong.sum())} replies that are not right were cut at "
                f"{found.settings['max_new_tokens']} tokens; a larger --max-new-tokens may change them."
            )
    return told


def at_floor(found: Answers) -> list[str]:
    """Return the tasks of which too few items are right at ratio 0, those of fewer than `LEAST` items aside."""
    return [
        task
        for task, size in found.task_sizes.items()
        if size >= min(LEAST, len(found.ids)) and _right(found, task) < FLOOR * size
    ]


def policy_sentence(found: Answers, policy: str) -> str:
    """Return how far a policy keeps the accuracy of ratio 0, and by which ratio half of the answers are lost."""
    place = found.place_of(policy)
    order = np.argsort(found.ids)  # the bootstrap draws the same items, however they are sorted
    right = found.right[order, place][found.right[order, place, 0]]
    at, rates = found.apart, found.rates("accuracy", policy)
    inside = rates.rate[at] >= rates.low[0]
    last = int(at[len(at) - 1 if inside.all() else int(np.argmin(inside)) - 1])
    shown = last or int(at[1])
    count = f"{int(right[:, shown].sum())} of {many(len(right), 'item')} still right"
    if not last:
        kept = f"loses answers already at {place_word(found, shown)} ({count})"
    else:
        end = ", the last one asked" if last == at[-1] else ""
        kept = (
            f"keeps what it knew {'down' if found.keep else 'up'} to {place_word(found, last)}{end} ({count})"
        )
    half = half_point(found.ratios[at], right[:, at].astype(float))
    lost = "fewer than half are lost" if np.isnan(half.value) else f"half are lost by ratio {_interval(half)}"
    if found.bits and 2 * right[:, 1].sum() < len(right):
        lost = "more than half are lost to the bits alone"
    return f"{policy}{' with these bits' if found.bits else ''}: {kept}, {lost}."


def place_word(found: Answers, k: int) -> str:
    """Return a ratio, or a budget with the ratio that it comes to, in words."""
    if found.keep and k:
        return f"{found.keep[k - 1]} rows (ratio {other_unit(found, k)})"
    return f"ratio {short(found.ratios[k])}"


def other_unit(found: Answers, k: int, between: str = " to ") -> str:
    """Return what a ratio comes to in rows kept, or a budget of rows in ratios: the least and the most over items."""
    if found.keep:
        rows = [found.rows_of(item) for item in range(len(found.ids))]
        ends = [found.ratios_of(int(i))[k] for i in (np.argmin(rows), np.argmax(rows))]
        words = [short(round(float(end), 2)) for end in ends]
    else:
        words = [str(n_kept(int(n), found.ratios[k])) for n in (found.n_context.min(), found.n_context.max())]
    return between.join(dict.fromkeys(words))


def short(value: float) -> str:
    """Return a ratio without the nought before its point."""
    return f"{value:.4g}".removeprefix("0") or "0"


def _share(found: Answers) -> str:
    rates = found.rates("accuracy", found.policies[0])
    value = f"{rates.rate[0]:.2f} [{rates.low[0]:.2f}, {rates.high[0]:.2f}]"
    return f"{rates.counts[0]} of {many(rates.trials, 'item')}, {value}"


def _right(found: Answers, task: str | None = None) -> int:
    return int(found.right[found.items_of(task), 0, 0].sum())


def _interval(found: Interval) -> str:
    if np.isnan(found.low) and np.isnan(found.high):
        return short(round(found.value, 2))
    ends = ("?" if np.isnan(end) else short(round(end, 2)) for end in (found.low, found.high))
    return f"{short(round(found.value, 2))} [{', '.join(ends)}]"
