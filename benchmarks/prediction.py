"""What predicting costs beside measuring: 7 policies at 13 ratios of one question: ``python -m benchmarks.prediction``.

Prefill, scores and the model's own reply are needed by both and stand apart. Predicting is then a few passes over the
reply and the shares of all variants, or with two tries fewer of them and two passes a policy; measuring decodes every
kept set that differs.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from routegraph.tables import Grid
from routegraph.validate.decoding.decode import decode
from routegraph.validate.measure.item import Item, distinct_variants, evicted
from routegraph.validate.measure.run import MEASURED_POLICIES, MEASURED_RATIOS
from routegraph.validate.models.load import Loaded, load, use_threads
from routegraph.validate.plan import Plan
from routegraph.validate.predict.reply import stated
from routegraph.validate.predict.sources import sources_of
from routegraph.validate.predict.support import read_support
from routegraph.validate.predict.tries import try_ratios
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.tasks import load_task

#: Ratios of every policy that are tried.
TRIES = 2
MODELS = ("qwen2.5-coder-0.5b", "smollm2")
#: Tokens of a context, and prompts of it.
LENGTHS = ((200, 5), (1200, 3))


def one(model: Loaded, prompt: Prompt) -> dict[str, float]:
    """Return seconds of every step of one question, and how many variants there are."""
    plan = Plan(MEASURED_POLICIES, MEASURED_RATIOS, max_new_tokens=12, chat="off")
    item = Item.read(model, prompt, plan)
    told, start = {}, time.perf_counter()

    def note(step: str) -> None:
        nonlocal start
        now = time.perf_counter()
        told[step] = now - start
        start = now

    cache, evictions = evicted(model, item, 0)
    note("prefill and scores")
    survivals = [eviction.survivals(MEASURED_RATIOS) for eviction in evictions]
    distinct, which = distinct_variants(survivals, MEASURED_RATIOS)
    variants = distinct[1:]  # the first one is the whole cache
    note("kept sets")
    own = decode(model, cache, item.asked.question, distinct[:1], plan.max_new_tokens)
    reply, said = stated(model.tokenizer, own.token_ids[0])
    note("own reply")
    sources = item.asked.positions(sources_of(prompt.context, said))
    read_support(model, cache, item.asked.question, reply, sources).lost(variants)
    note("predict")
    read_support(model, cache, item.asked.question, reply, sources, with_dependence=False).lost(variants)
    places = which.reshape(len(evictions), -1)
    try_ratios(model, cache, item.asked.question, reply, distinct, places, TRIES)
    note("predict, tried")
    decode(model, cache, item.asked.question, variants, plan.max_new_tokens)
    note("decode")
    return {**told, "variants": len(variants), "tokens": len(item.asked.context), "reply": len(reply)}


def prediction() -> dict[str, Any]:
    """Time every step on contexts of two lengths, two models, one thread, bfloat16."""
    use_threads(1)
    rows = []
    for name in MODELS:
        model = load(name, dtype="bfloat16")
        for length, prompts in LENGTHS:
            task = "base" if length < 500 else "long_context"
            asked = load_task(task, 2 * prompts, seed=5, length=length)[::2]
            one(model, asked[0])  # warms up, compiles
            found = [one(model, prompt) for prompt in asked]
            rows.append({"model": name, **{key: [told[key] for told in found] for key in found[0]}})
    return {"rows": rows}


def grid(results: dict[str, Any]) -> Grid:
    """Return the steps in seconds, the median and the ends over prompts, and what predicting is of measuring."""
    steps = ("prefill and scores", "own reply", "predict", "predict, tried", "decode")
    rows = []
    for row in results["rows"]:
        parts = [f"{np.median(row[s]):.2f} ({min(row[s]):.2f}-{max(row[s]):.2f})" for s in steps]
        shares = [np.array(row[step]) / np.array(row["decode"]) for step in ("predict", "predict, tried")]
        rows.append(
            [
                f"{row['model']}, {np.median(row['tokens']):.0f} tokens",
                f"{np.median(row['variants']):.0f}",
                *parts,
                *(f"{np.median(share):.3f} ({share.min():.3f}-{share.max():.3f})" for share in shares),
            ]
        )
    return Grid(["context", "variants", *steps, "predict / decode", "tried / decode"], rows)


if __name__ == "__main__":
    sys.stdout.write(grid(prediction()).to_markdown() + "\n")
