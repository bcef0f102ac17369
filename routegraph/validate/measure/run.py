"""Answers of a real model under eviction, item by item, beside what may tell which items fail.

One item (a prompt) is one cell: its context is prefilled once for the scores and the cache, and once more with the
question after it for the reads; then all (policy, ratio) variants are decoded in one batch. A cell is one file,
written whole or not at all; it holds neither time nor host nor versions, so that a run that was killed and resumed
leaves the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from routegraph.files import digest
from routegraph.options import check_names, takes
from routegraph.survival import check_ratios
from routegraph.validate.decoding.evicting import check_cuttable
from routegraph.validate.decoding.knockout import check_limit
from routegraph.validate.measure.cells import Cells
from routegraph.validate.measure.item import effort, measure_item, read_items
from routegraph.validate.measure.metrics import EPS
from routegraph.validate.measure.result import Measured, from_cells
from routegraph.validate.measure.schema import measured_cell
from routegraph.validate.models.sources import Progress
from routegraph.validate.models.speed import expect
from routegraph.validate.plan import Measuring
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.work import HERE, Work

#: The paper's two policies, and what they are compared with.
MEASURED_POLICIES = ("chunk", "adakv", "topk", "snapkv", "knorm", "random", "streaming")


#: Dense beyond .9, where the paper's grid ends.
MEASURED_RATIOS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99, 0.995)


#: What a measurement of eviction while decoding compares by default.
DECODED_POLICIES = ("random", "streaming", "h2o", "tova", "knorm", "rkv")


def planned(
    policy_names: Sequence[str] | None,
    ratios: Sequence[float] | None,
    keep: Sequence[int],
    decode_budget: Sequence[int] = (),
    **options: Any,
) -> Measuring:
    """Return the plan of `measure`: ratio 0 is always asked; with budgets every prompt has further ones of its own.

    Raises
    ------
    ValueError
        If both ratios and budgets are given, or as `Plan`.
    """
    if len(keep) and ratios is not None:
        raise ValueError("give either ratios or numbers of rows to keep, not both")
    default = [0.0] if len(keep) or len(decode_budget) else list(MEASURED_RATIOS)
    asked = check_ratios(default if ratios is None else list(ratios))
    if policy_names is None:
        policy_names = DECODED_POLICIES if len(decode_budget) else MEASURED_POLICIES
    return Measuring(policy_names, [0.0, *asked], keep=keep, decode_budget=decode_budget, **options)


def check_metrics(plan: Measuring, metrics: bool) -> None:
    """Raise ValueError where metrics are asked for beside what they do not tell of: bits, eviction while decoding."""
    if metrics and plan.decode_budget:
        raise ValueError(
            "the metrics tell of rows that are removed before the reply; leave out metrics or decode budgets"
        )
    if metrics and plan.bits:
        raise ValueError(
            "the metrics tell of rows that are removed, not of rounded ones; leave out metrics or bits"
        )


@takes(Measuring)
def measure(
    model: Any,
    prompts: Sequence[Prompt],
    out: str | os.PathLike[str] | None = None,
    *,
    policy_names: Sequence[str] | None = None,
    ratios: Sequence[float] | None = None,
    keep: Sequence[int] = (),
    decode_budget: Sequence[int] = (),
    metrics: bool = False,
    carriers: int = 0,
    work: Work = HERE,
    skip_damaged: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Measured:
    """Ask every prompt under every policy and ratio, and measure on request what may tell the items that fail.

    Parameters
    ----------
    model : Loaded, str or Path
        Whatever `routegraph.validate.models.load.load` takes.
    prompts : sequence of Prompt
        With a question or an answer prefix. Answerable ones need an answer; without answer spans every place of
        the answer in the context is one. What needs answer tokens or evidence is left out where a prompt has none. A
        prompt that cannot be asked or does not fit the model or a scorer is set aside: see `Measured.aside`.
    out : path, optional
        Folder of the cell files, made if missing. What it already holds is not measured again; in memory only by
        default.
    policy_names : sequence of str
        `MEASURED_POLICIES` by default, see `Method.named`; with budgets of decoding `DECODED_POLICIES`, names of
        `routegraph.validate.presses.decoding.REPLY_POLICIES`. A policy that draws, "random" or "bernoulli", does so for
        every slot of every item, from `seed` and the item's id.
    ratios : sequence of float
        Compression ratios in [0, 1), `MEASURED_RATIOS` by default; 0 is always measured, too. Where two keep the same
        rows, the model is asked once.
    **options
    keep : sequence of int
        Budgets in rows that a slot keeps, in place of ratios: each prompt is asked at the ratio of its own at which
        `n_kept` is the budget, and at ratio 0 where it has no more rows than that.
    decode_budget : sequence of int
        Rows that a cut leaves in each slot while the reply is decoded, in place of ratios; the reply without any cut is
        always measured, too.
    metrics : bool
        Whether to measure everything of `METRICS`, too: routes, attention lost, drift. Takes time, and nothing of it
        is needed for the answers.
    carriers : int
        How many tokens the answer is read from to find by knockout, which takes several times as long and is measured
        with the metrics; 0: none.
    work : Work
        Who computes the items: see `routegraph.validate.work.Work`; by default the calling process.
    skip_damaged : bool
        Measure damaged cells of `out` again, each named by a warning, instead of stopping at the first.
    progress : callable, optional
        Called as ``progress(done, total, label)``.

    Returns
    -------
    Measured
        The prompts asked for, in their order.

    Raises
    ------
    ValueError
        If no prompt can be asked; if the tokenizer does not fit the model; if a policy, ratio or bits are unknown,
        ratios are given beside budgets, or metrics or budgets beside bits; if `out` holds what was measured with other
        settings. All prompts are checked before the first is measured.
    """
    if not prompts:
        raise ValueError("at least one prompt is needed")
    if carriers < 0:
        raise ValueError(f"carriers must be at least 0, got {carriers}")
    check_names("measure", Measuring, options)
    plan = planned(policy_names, ratios, keep, decode_budget, **options)
    check_metrics(plan, bool(metrics or carriers))
    model = work.load(model, progress=progress)
    if plan.decode_budget:
        check_cuttable(model)
    settings = {
        **plan.settings(model),
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "cache_row": model.cache_row,
        "carriers": carriers,
        "eps": list(EPS),
        "metrics": bool(metrics or carriers),
    }
    items, aside = read_items(model, prompts, plan)
    for item in items:
        if carriers and item.prompt.answerable:
            check_limit(carriers, len(item.asked.context), name="carriers")
    kept = Cells.open(out, settings, holds=measured_cell, skip_damaged=skip_damaged, work=work)
    names = [digest(item.prompt.to_dict()) for item in items]
    efforts = [effort(item, plan) for name, item in zip(names, items, strict=True) if not kept.has(name)]
    expect(progress, model, efforts, len(items), work.workers)
    told = [
        (name, item.prompt.id, (item, plan, carriers, settings["metrics"]))
        for name, item in zip(names, items, strict=True)
    ]
    cells = kept.fill(model, measure_item, told, work, progress)
    return replace(from_cells(kept.settings, cells, names), aside=aside)
