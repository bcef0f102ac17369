"""Which answers will break, prompt by prompt, from the full cache alone: nothing is decoded under an eviction.

One prompt is one cell: one prefill of its context, the model's own reply with the full cache, a few passes over that
reply, and then every policy at every ratio at once. What it takes hardly depends on how many of them there are. On
request a few ratios of every policy are tried: the reply is read again with what is left of the cache.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph.files import digest
from routegraph.options import check_names, check_whole, takes
from routegraph.stats.intervals import listed
from routegraph.validate.decoding.decode import decode
from routegraph.validate.graders.words import normalise
from routegraph.validate.measure.cells import PREDICTION, Cells
from routegraph.validate.measure.item import Item, distinct_variants, evicted, read_items
from routegraph.validate.measure.run import MEASURED_POLICIES, planned
from routegraph.validate.measure.schema import predicted_cell
from routegraph.validate.models.load import Loaded
from routegraph.validate.models.sources import Progress
from routegraph.validate.models.speed import expect
from routegraph.validate.plan import JUDGING, Plan
from routegraph.validate.predict.forecast import SHARES
from routegraph.validate.predict.reply import stated
from routegraph.validate.predict.result import Predicted, from_cells
from routegraph.validate.predict.sources import sources_of
from routegraph.validate.predict.support import read_support
from routegraph.validate.predict.tries import try_ratios
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.work import HERE, Work

if TYPE_CHECKING:
    from routegraph.validate.measure.result import Measured


@takes(Plan, without=JUDGING)
def predict(
    model: Any,
    prompts: Sequence[Prompt],
    out: str | os.PathLike[str] | None = None,
    *,
    policy_names: Sequence[str] = MEASURED_POLICIES,
    ratios: Sequence[float] | None = None,
    tries: int = 0,
    measured: Measured | None = None,
    work: Work = HERE,
    skip_damaged: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Predicted:
    """Predict for every prompt, policy and ratio whether the answer breaks.

    Parameters
    ----------
    model : Loaded, str or Path
        Whatever `routegraph.validate.models.load.load` takes.
    prompts : sequence of Prompt
        With a question or an answer prefix; no answers are needed, and none is looked at. A prompt that cannot be
        asked or does not fit the model or a scorer is set aside: see `Predicted.aside`.
    out : path, optional
        Folder of the cell files, made if missing. What it already holds is not worked out again; in memory only by
        default.
    policy_names : sequence of str
        See `Method.named`.
    ratios : sequence of float
        Compression ratios in [0, 1), `MEASURED_RATIOS` by default; 0 is always among them.
    tries : int
        Ratios of every policy that are tried, by bisection: see `routegraph.validate.predict.tries`. Two tell what
        the full cache cannot; each takes one pass over question and reply.
    measured : Measured, optional
        Answers of the same model, under some of these policies and ratios, to some of these prompts: the chances are
        calibrated on them. Without, they are what other models had.
    **options
    work : Work
        Who computes the items: see `routegraph.validate.work.Work`; by default the calling process.
    skip_damaged : bool
        Work damaged cells of `out` out again, each named by a warning, instead of stopping at the first.
    progress : callable, optional
        Called as ``progress(done, total, label)``.

    Returns
    -------
    Predicted
        The prompts asked for, in their order.

    Raises
    ------
    ValueError
        If no prompt can be asked; if the tokenizer does not fit the model; if a policy or ratio is unknown, or the
        number of tries out of range; if `out` holds what was predicted with other settings; if `measured` is of
        another model or of none of these prompts.
    """
    if not prompts:
        raise ValueError("at least one prompt is needed")
    check_names("predict", Plan, options, JUDGING)
    check_whole("tries", tries, 0)
    plan = planned(policy_names, ratios, (), **options)
    model = work.load(model, progress=progress)
    settings = {**plan.settings(model), "dtype": str(model.model.dtype).removeprefix("torch.")}
    for name in JUDGING:
        del settings[name]
    if tries:
        settings["tries"] = tries
    items, aside = read_items(model, [without_answer(prompt) for prompt in prompts], plan)
    kept = Cells.open(out, settings, PREDICTION, predicted_cell, skip_damaged, work)
    told = [(digest(item.prompt.to_dict()), item.prompt.id, (item, plan, tries)) for item in items]
    efforts = [  # read, replied to, and read again by layers
        3 * (len(item.asked.context) + len(item.asked.question) + plan.max_new_tokens)
        for (name, *_), item in zip(told, items, strict=True)
        if not kept.has(name)
    ]
    expect(progress, model, efforts, len(items), work.workers)
    cells = kept.fill(model, predict_item, told, work, progress)
    found = replace(from_cells(kept.settings, cells), aside=aside)
    return found if measured is None else found.calibrated(measured)


def predict_item(model: Loaded, item: Item, plan: Plan, tries: int = 0) -> dict[str, Any]:
    """Return the cell of one prompt, without its seal."""
    asked, prompt = item.asked, item.prompt
    n = len(asked.context)
    ratios = plan.ratios_of(n)
    cache, evictions = evicted(model, item, plan.seed)
    whole = np.ones((1, model.n_layers, model.n_heads, n), dtype=bool)
    own = decode(model, cache, asked.question, whole, plan.max_new_tokens, stop=plan.stop)
    reply, said = stated(model.tokenizer, own.token_ids[0])
    told: dict[str, Any] = {"shares": None}
    if len(reply):
        sources = asked.positions(sources_of(prompt.context, said))
        support = read_support(model, cache, asked.question, reply, sources, with_dependence=not tries)
        survivals = [eviction.survivals(ratios) for eviction in evictions]
        distinct, which = distinct_variants(survivals, ratios)
        shape = (len(evictions), len(ratios))
        shares = np.round(support.shares(distinct)[:, which].reshape(-1, *shape), 6)
        told = {"shares": dict(zip(SHARES, shares.tolist(), strict=False))}
        if tries:
            lost = try_ratios(model, cache, asked.question, reply, distinct, which.reshape(shape), tries)
            told["tried"] = [listed(row) for row in np.round(lost, 6)]
    return {
        "prompt": {
            "id": prompt.id,
            "task": prompt.task or "prompts",
            "n_context": n,
            "n_question": len(asked.question),
        },
        "protected": {eviction.method.name: eviction.told for eviction in evictions},
        "reply": own.texts[0],
        "statement": said,
        **told,
    }


def without_answer(prompt: Prompt) -> Prompt:
    """Return a prompt that asks without a right answer where it has none: nothing is graded here."""
    if prompt.answerable and not normalise(prompt.answer):
        return replace(prompt, answerable=False)
    return prompt
