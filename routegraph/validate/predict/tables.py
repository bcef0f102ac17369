"""A prediction in words and tables."""

from __future__ import annotations

import numpy as np

from routegraph.tables import Grid, Page, interval, many, note, points, spanned, words
from routegraph.validate.predict.forecast import Forecast
from routegraph.validate.prompts.tokens import set_aside

#: Prompts that are shown as the first to break.
_FIRST = 5

FOOTNOTE = (
    "An answer is what the model says with the full cache, right or wrong; it holds where it is still given. [.., ..]: "
    "95 %, over prompts and over how much answers of other models, or of the measured prompts, bear to lose."
)


def predicted_page(found: Forecast, within: float | None = None) -> Page:
    """Return what is to be expected of every policy, and which prompts break first; the ratio of each on request."""
    dial = () if within is None else (dial_grid(found, within),)
    return Page(
        (
            words(*reading(found)),
            points(f"{name}: {told}." for name, told in found.methods.items()),
            kept_grid(found),
            first_grid(found),
            *dial,
            note(f"{_source(found)} {FOOTNOTE}"),
        )
    )


def _source(found: Forecast) -> str:
    if not found.tries:
        return "Predicted from the full cache: nothing was decoded under an eviction."
    return (
        f"Nothing was decoded under an eviction; each reply was read again with what is left of the cache at up to "
        f"{many(found.tries, 'ratio')} of every policy."
    )


def reading(found: Forecast) -> list[str]:
    """Return how far every policy is expected to keep the answers, in sentences."""
    asked = len(found.ids)
    silent = int(np.isnan(found.lost).any(axis=(1, 2)).sum())
    told = [
        f"Model {found.settings['model']}, {many(asked, 'prompt')} of {spanned(found.n_context)} tokens; calibrated on "
        f"{found.calibration.words}."
    ]
    if silent:
        told.append(f"Warning: {many(silent, 'prompt')} got an empty reply, which no figure counts.")
    if found.aside:
        told.append(f"Warning: {set_aside(found.aside, asked + len(found.aside))}; no figure counts them.")
    return told + [_sentence(found, policy) for policy in found.policies]


def _sentence(found: Forecast, policy: str) -> str:
    half, most = found.critical(policy), found.critical(policy, target=0.9)
    last = f"{found.ratios[-1]:g}"
    if np.isnan(half.value):
        return f"{policy}: fewer than half of the answers are expected to be lost up to ratio {last}."
    kept = f"nine in ten hold up to {interval(most, 2)}, " if not np.isnan(most.value) else ""
    return f"{policy}: {kept}half are lost by ratio {interval(half, 2)}."


def kept_grid(found: Forecast) -> Grid:
    """Return the share of answers expected to hold at up to five ratios, in percent, a row a policy and task."""
    last = len(found.ratios) - 1
    at = sorted({round(k * last / 4) for k in range(1, 5)})
    rows = []
    for policy in found.policies:
        for task in found.groups:
            kept, (low, high) = found.kept(policy, task), found.band(policy, task)
            cells = [f"{100 * kept[k]:.0f} [{100 * low[k]:.0f}, {100 * high[k]:.0f}]" for k in at]
            rows.append([policy, task or "all", *cells, interval(found.critical(policy, task), 2)])
    columns = ["policy", "task", *(f"{found.ratios[k]:g}" for k in at), "half lost by"]
    return Grid(columns, rows, "Answers expected to hold at the ratio, percent", right_from=2)


def first_grid(found: Forecast) -> Grid:
    """Return the prompts whose answers break first, under each policy."""
    rows = []
    for policy in found.policies:
        breaks = found.thresholds(policy)
        worst = np.where(np.isnan(breaks), np.inf, breaks)
        for i in np.argsort(worst, kind="stable")[:_FIRST]:
            if np.isfinite(worst[i]):
                rows.append([policy, found.ids[i], found.statements[i], f"{worst[i]:.2f}"])
    columns = ["policy", "prompt", "own reply", "breaks by"]
    title = "Prompts that break first: more likely than not from this ratio on"
    return Grid(columns, rows, title, right_from=3)


def dial_grid(found: Forecast, within: float) -> Grid:
    """Return the largest ratio of each prompt up to which its reply loses no more, a column a policy."""
    own = {policy: found.dial(policy, within) for policy in found.policies}
    rows = [[name, *(f"{ratios[i]:g}" for ratios in own.values())] for i, name in enumerate(found.ids)]
    rows.append(["mean", *(f"{ratios.mean():.2f}" for ratios in own.values())])
    return Grid(
        ["prompt", *own], rows, f"Ratio up to which at most {within:g} of a reply's {found.what} is lost"
    )
