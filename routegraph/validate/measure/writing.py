"""Replies under eviction while decoding: one with the cache whole, and one for every policy and budget."""

from __future__ import annotations

from typing import Any

import numpy as np

from routegraph.validate.decoding.evicting import write
from routegraph.validate.decoding.written import WHOLE, Cutting, Written
from routegraph.validate.eviction import seed_of
from routegraph.validate.measure.replies import Replies
from routegraph.validate.models.load import Loaded
from routegraph.validate.plan import Measuring
from routegraph.validate.prompts.tokens import Asked


def written_replies(
    model: Loaded, asked: Asked, plan: Measuring, prompt: str
) -> tuple[Replies, dict[str, Any], int]:
    """Decode an item's reply under every policy and budget.

    Parameters
    ----------
    model : Loaded
    asked : Asked
    plan : Measuring
        With budgets of decoding.
    prompt : str
        Its id, from which policies that draw get their seed.

    Returns
    -------
    replies : Replies
        Policies outermost; of each first the one with the cache whole, then from the largest budget to the smallest.
    told : dict
        What the cell keeps of them, as `fates`.
    n_rows : int
        Rows that came with the reply of the whole cache.
    """
    cuttings = [
        Cutting(policy, budget, plan.decode_interval)
        for policy in plan.policy_names
        for budget in plan.decode_budget
    ]
    whole, *cut = write(
        model,
        asked.context,
        asked.question,
        [WHOLE, *cuttings],
        plan.max_new_tokens,
        stop=plan.stop,
        seed=seed_of(plan.seed, prompt),
    )
    each = len(plan.decode_budget)
    written = [one for start in range(0, len(cut), each) for one in (whole, *cut[start : start + each])]
    replies = Replies([one.text for one in written], [int(one.cut) for one in written])
    return replies, fates(written), int(whole.death.shape[2])


def fates(written: list[Written]) -> dict[str, list[float]]:
    """Return what a cell keeps of the deaths: shares at the end of each reply.

    Returns
    -------
    dict
        "dead": of all slots that came, those that are dead. "gone": of the tokens of context and question, those that
        no slot holds any more. "tokens": of the reply.
    """

    def share(which: Any) -> float:
        return float(f"{np.mean(which):.7g}")

    return {
        "dead": [share(one.death <= one.n_steps) for one in written],
        "gone": [
            share((one.death[:, :, : one.n_prefill + 1] <= one.n_steps).all(axis=(0, 1))) for one in written
        ],
        "tokens": [len(one.token_ids) for one in written],
    }
