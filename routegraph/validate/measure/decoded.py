"""What is said of answers whose cache was cut while they were decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.stats.intervals import Interval
from routegraph.stats.proportions import wilson
from routegraph.tables import Grid, many
from routegraph.validate.measure.answers import Answers

DECODED_NOTE = (
    "Budgets are rows that a cut leaves in every slot, of context, question and reply together; 'all' is the "
    "reference, whose cache is never cut. The ratio below a budget is the share of the rows that came with the "
    "reference's reply which it does not hold, over the items; critical ratios are fitted on its mean. Shares of slots "
    "and tokens: normal 95 % intervals over items; parts of answers: Wilson's, which are wide for shares."
)


def decoded_words(found: Answers) -> str:
    """Return how the cache was cut, in a sentence; nothing where it was not while decoding."""
    if not found.decode_interval:
        return ""
    every = "after every step" if found.decode_interval == 1 else f"after every {found.decode_interval} steps"
    return f"Evicted while decoding: {every}, the question being the first, each slot was cut to its budget."


def decoded_definitions() -> dict[str, str]:
    """Return the definitions that a result has beside, or in the place of, those of every measurement."""
    return {
        "ratio": "fraction of the rows of context, question and reply that the budget does not hold, for the reply of "
        "the cache that is never cut; mean over items",
        "decode_budget": "rows that a cut leaves in every slot (layer, KV head)",
        "decode_interval": "steps from cut to cut; the question is the first step, each token of the reply but the "
        "last another. A question of so many tokens as the budget has rows is cut at once, as kvpress does",
        "dead": "slots (layer, KV head, row) that are dead at the end of the reply / all that came; mean over items",
        "gone": "tokens of context and question that no slot holds at the end of the reply / all; mean over items",
        "parts": "share of an item's answers that stand in the reply, by a grader that counts them; mean over items",
    }


def decoded_sentences(found: Answers) -> list[str]:
    """Return a sentence where eviction never fired, at any budget or at some of them."""
    if found.dead is None:
        return []
    fired = [bool((found.dead[:, :, k] > 0).any()) for k in range(1, found.dead.shape[2])]
    if not any(fired):
        return [
            "Nothing was ever evicted: no reply was long enough, or no cache ever held more rows than the budget when "
            "a cut was due, so that all figures are of the same cache."
        ]
    idle = [str(budget) for budget, one in zip(found.keep, fired, strict=True) if not one]
    if not idle:
        return []
    return [f"Nothing was evicted at {many(len(idle), 'budget').partition(' ')[2]} {', '.join(idle)}."]


def decoded_grids(found: Answers, cells: Sequence[Mapping[str, Any]]) -> list[Grid]:
    """Return what became of the cache, and the parts of answers that replies hold where a grader counts them."""
    columns = ["policy", *(f"keep {one}" for one in ("all", *found.keep))]
    titles = {
        "dead": "Slots dead at the end of the reply, percent",
        "gone": "Prompt tokens gone from every slot at its end, percent",
        "parts": "Parts of the answer in the reply, percent",
    }
    shares = decoded_shares(found, cells)
    return [
        Grid(
            columns,
            [
                [policy, *(_percent(one) for one in row)]
                for policy, row in zip(found.policies, shares[name], strict=True)
            ],
            title=title,
        )
        for name, title in titles.items()
        if name in shares
    ]


def decoded_shares(found: Answers, cells: Sequence[Mapping[str, Any]]) -> dict[str, list[list[Interval]]]:
    """Return the means over items of "dead", "gone" and, where a grader counts parts, "parts", by policy and budget."""
    shape = (len(cells), len(found.policies), -1)
    tables = {name: [cell[name] for cell in cells] for name in ("dead", "gone")}
    if any("scores" in cell for cell in cells):
        tables["parts"] = [cell.get("scores", cell["right"]) for cell in cells]
    return {
        name: _means(np.array(table, dtype=float).reshape(shape), name == "parts")
        for name, table in tables.items()
    }


def _means(table: NDArray[np.float64], bounded: bool) -> list[list[Interval]]:
    """Return means over items with 95 % intervals: Wilson's where all may be 0 or 1, else normal, NaN of one item."""
    mean = table.mean(axis=0)
    wide = (
        1.96 * table.std(axis=0, ddof=1) / np.sqrt(len(table))
        if len(table) > 1
        else np.full(mean.shape, np.nan)
    )
    low, high = np.maximum(mean - wide, 0), np.minimum(mean + wide, 1)
    if bounded:
        low, high = wilson(table.sum(axis=0), np.full(mean.shape, len(table)))
    return [
        [Interval(*map(float, one)) for one in zip(*row, strict=True)]
        for row in zip(mean, low, high, strict=True)
    ]


def _percent(one: Interval) -> str:
    value = f"{100 * one.value:.0f}"
    return value if np.isnan(one.low) else f"{value} [{100 * one.low:.0f}, {100 * one.high:.0f}]"
