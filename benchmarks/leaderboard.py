"""kvpress's own protocol, its presses x ratios over one prompt, one after the other, against all of them in one batch.

``python -m benchmarks.leaderboard [smollm2 qwen2.5-coder-0.5b] [--tokens 200 2000] [--dtype float32] [--device cpu]``.
The prompt is asked under three presses at seven ratios, 21 variants. Theirs is what kvpress's pipeline does: for each
press and ratio a prefill, an eviction and a greedy reply. Ours is what `measure` does: one prefill that scores for all,
and one decode.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

from routegraph.tables import Grid
from routegraph.validate.decoding.decode import decode
from routegraph.validate.decoding.shared_cache import Kept
from routegraph.validate.measure.item import Item, distinct_variants, evicted
from routegraph.validate.models.load import Loaded, load, use_threads
from routegraph.validate.plan import Plan
from routegraph.validate.presses import prefill, reference
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.tasks import load_task

MODELS = ("smollm2", "qwen2.5-coder-0.5b")
LENGTHS = (200, 2000)
#: Methods whose scores have no ties, which kvpress breaks at will; norms of equal tokens' keys are some.
METHODS = ("expected_attention", "adakv", "keydiff")
RATIOS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
MAX_NEW_TOKENS = 24
#: Runs of ours, and of a few of theirs whose spread is told: all 21 take minutes.
ROUNDS = 3


def press_of(method: str, ratio: float) -> Any:
    """Return kvpress's press for a method."""
    presses = kvpress()
    if method == "adakv":
        return presses.AdaKVPress(presses.ExpectedAttentionPress(ratio))
    return {"expected_attention": presses.ExpectedAttentionPress, "keydiff": presses.KeyDiffPress}[method](
        ratio
    )


def theirs(model: Loaded, item: Item, method: str, ratio: float) -> str:
    """Return the reply of kvpress's pipeline under one press at one ratio."""
    import torch

    pipeline = reference.pipeline_of(model)
    tokens = {
        "context_ids": torch.from_numpy(item.asked.context)[None],
        "questions_ids": [torch.from_numpy(item.asked.question)[None]],
    }
    try:
        with reference.patched_attention(), torch.no_grad():
            (text,) = pipeline._forward(tokens, MAX_NEW_TOKENS, press=press_of(method, ratio))
    finally:
        for module in prefill.attention_modules(model.model):
            module.masked_key_indices = None
            module._modules.pop("rotary_emb", None)  # left there by presses
    return str(text)


def ours(model: Loaded, item: Item, speculate: bool, told: dict[str, float]) -> tuple[list[str], Kept]:
    """Return the replies under all presses and ratios, and the kept sets that differ; the steps' seconds are told."""
    started = time.perf_counter()
    cache, evictions = evicted(model, item, 0)
    told["prefill and scores"] = time.perf_counter() - started
    distinct, which = distinct_variants([eviction.survivals(RATIOS) for eviction in evictions], RATIOS)
    decoded = decode(
        model, cache, item.asked.question, distinct, MAX_NEW_TOKENS, n_logits=0, speculate=speculate
    )
    told["all"] = time.perf_counter() - started
    return [decoded.texts[one] for one in which], distinct


def one(model: Loaded, n_tokens: int) -> dict[str, Any]:
    """Time both on one prompt; ours in turn with a few of theirs, with and without guesses."""
    import torch

    def count(text: str) -> int:
        return len(model.tokenizer(text)["input_ids"])

    plan = Plan(METHODS, RATIOS, max_new_tokens=MAX_NEW_TOKENS)
    (prompt, *_) = load_task("base" if n_tokens < 500 else "long_context", 2, 5, n_tokens, count)
    item = Item.read(model, prompt, plan)
    labels = [(method, ratio) for method in METHODS for ratio in RATIOS]
    theirs(model, item, *labels[0])  # imports
    ours(model, item, True, {})
    seconds: dict[str, list[float]] = {
        name: [] for name in ("guessed", "one token a pass", "prefill", "scores")
    }
    texts, walls = [], []
    for number, label in enumerate(labels):
        started = time.perf_counter()
        texts.append(theirs(model, item, *label))
        walls.append(time.perf_counter() - started)
        if number % (len(labels) // ROUNDS) == 0:
            for name, speculate in (("guessed", True), ("one token a pass", False)):
                told: dict[str, float] = {}
                found, distinct = ours(model, item, speculate, told)
                seconds[name].append(told["all"])
                if speculate:
                    replies = found
                    seconds["scores"].append(told["prefill and scores"])
            started = time.perf_counter()
            prefill.prefill(model.model, torch.from_numpy(item.asked.context)[None])
            if model.model.device.type == "cuda":
                torch.cuda.synchronize()
            seconds["prefill"].append(time.perf_counter() - started)
    # Three runs of seven each of theirs stand beside the three of ours.
    thirds = np.array(walls).reshape(ROUNDS, -1).sum(axis=1) * ROUNDS
    return {
        "model": model.name,
        "tokens": len(item.asked.context),
        "question": len(item.asked.question),
        "variants": len(labels),
        "distinct": len(distinct),
        "distinct_in_first_layer": len({one[0].tobytes() for one in distinct}),
        "theirs": sum(walls),
        "times": sorted((thirds / np.array(seconds["guessed"])).tolist()),
        "ratio": sum(walls) / float(np.median(seconds["guessed"])),
        "bound": sum(walls) / float(np.median(seconds["prefill"])),
        "seconds": seconds,
        "equal": int(sum(a == b for a, b in zip(texts, replies, strict=True))),
    }


def leaderboard(
    models: tuple[str, ...] = MODELS,
    lengths: tuple[int, ...] = LENGTHS,
    dtype: str = "float32",
    device: str = "cpu",
) -> dict[str, Any]:
    """Time all models and lengths, one thread; every text of float32 must be kvpress's."""
    use_threads(1)
    rows = []
    for name in models:
        model = load(name, dtype=dtype, device=device)
        rows += [one(model, n) for n in lengths]
    assert dtype != "float32" or all(row["equal"] == row["variants"] for row in rows), (
        "another text than kvpress's"
    )
    return {"dtype": dtype, "device": device, "rows": rows}


def grid(results: dict[str, Any]) -> Grid:
    """Return the times, and how many times theirs ours goes into; the ends are over thirds of the presses."""
    header = [
        "context",
        "variants",
        "kvpress (s)",
        "ours (s)",
        "times",
        "one token a pass",
        "most",
        "texts equal",
    ]
    rows = []
    for row in results["rows"]:
        mid = {name: float(np.median(values)) for name, values in row["seconds"].items()}
        rows.append(
            [
                f"{row['model']}, {row['tokens']:,} + {row['question']} tokens",
                f"{row['variants']} ({row['distinct']} differ, {row['distinct_in_first_layer']} in the first layer)",
                f"{row['theirs']:.1f}",
                f"{mid['guessed']:.2f} ({min(row['seconds']['guessed']):.2f}-{max(row['seconds']['guessed']):.2f})",
                f"{row['ratio']:.1f} ({row['times'][0]:.1f}-{row['times'][-1]:.1f})",
                f"{row['theirs'] / mid['one token a pass']:.1f}",
                f"{row['bound']:.1f}",
                f"{row['equal']} of {row['variants']}",
            ]
        )
    return Grid(header, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--tokens", nargs="+", type=int, default=list(LENGTHS))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    sys.stdout.write(
        grid(leaderboard(tuple(asked.models), tuple(asked.tokens), asked.dtype, asked.device)).to_markdown()
        + "\n"
    )
