"""kvpress's own presses that do what our scorers do, and how their kept sets compare with ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from routegraph import policies
from routegraph.validate.presses import prefill, reference
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.reference import compare_kept, competitors
from routegraph.validate.presses.scorers import SCORERS

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
LENGTH = 50  # of a chunk

#: Parameters of our scorers that fit short contexts, and kvpress's press for the same at a ratio.
Case = tuple[dict[str, Any], Callable[[Any, float], Any]]
CASES: dict[str, Case] = {
    "expected_attention": ({}, lambda kv, r: kv.ExpectedAttentionPress(r)),
    "knorm": ({}, lambda kv, r: kv.KnormPress(r)),
    "snapkv": ({"window": 16}, lambda kv, r: kv.SnapKVPress(r, window_size=16)),
    "tova": ({}, lambda kv, r: kv.TOVAPress(r)),
    "observed_attention": ({}, lambda kv, r: kv.ObservedAttentionPress(r)),
    "finch": ({"window": 16}, lambda kv, r: finch(kv, r)),
    "keydiff": ({}, lambda kv, r: kv.KeyDiffPress(r)),
    "lagkv": ({"lag_size": 32}, lambda kv, r: kv.LagKVPress(r, lag_size=32)),
    "streaming_llm": ({}, lambda kv, r: kv.StreamingLLMPress(r)),
    "cur": ({}, lambda kv, r: kv.CURPress(r)),
    "non_causal_attention": ({"chunk_size": 64}, lambda kv, r: kv.NonCausalAttnPress(r, chunk_size=64)),
    # Sketches below the head's width: wider ones give the same leverage whatever is drawn.
    "leverage": ({"sketch_dimension": 8}, lambda kv, r: kv.LeverageScorePress(r, sketch_dimension=8)),
    "compactor": (
        {"sketch_dimension": 8},
        lambda kv, r: kv.CompactorPress(r, sketch_dimension=8, blending=0.35),
    ),
    "cap": ({}, lambda kv, r: kv.CapPress(r)),
}


def finch(kv: Any, ratio: float) -> Any:
    press = kv.FinchPress(ratio)
    press.window_size, press.delimiter_token_id = 16, -1
    return press


@contextmanager
def seeded_layers(model: Any) -> Iterator[None]:
    """Seed torch before each layer, as our seeded scorers do, so that kvpress draws the same sketches."""
    import torch

    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng())
        for number, module in enumerate(prefill.attention_modules(model)):
            handle = module.register_forward_pre_hook(
                lambda *_, number=number: torch.manual_seed(number) and None
            )
            stack.callback(handle.remove)
        yield


@contextmanager
def eager(model: Any) -> Iterator[None]:
    """Run a model with eager attention, which returns its weights."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def compare(model: Any, ids: Any, scorer: str, policy: str = "topk", ratios: Any = RATIOS) -> Counter[str]:
    """Count slots, ties and mismatches of one scorer and policy over all ratios, kvpress running at each."""
    parameters, factory = CASES[scorer]
    kv = kvpress()
    length = LENGTH if policy == "chunk" else None
    scores = prefill.prefill_scores(model, ids, SCORERS[scorer](**parameters), [length] if length else [])[
        length
    ]
    survival = policies.apply(policy, scores, **({"chunk_length": length} if length else {}))
    groups = competitors(policy, scores.shape, LENGTH)
    found: Counter[str] = Counter()
    for ratio in ratios:
        press = factory(kv, ratio)
        if policy == "adakv":
            press = kv.AdaKVPress(press)
        elif policy == "chunk":
            press = kv.ChunkPress(press, chunk_length=LENGTH)
        with ExitStack() as stack:
            stack.enter_context(seeded_layers(model))
            if scorer == "observed_attention":
                stack.enter_context(eager(model))
            theirs = reference.reference_kept(model, ids, press)
        one = compare_kept(survival.alive(ratio), theirs, scores, groups)
        assert theirs.sum() == survival.alive(ratio).sum()
        found += Counter(slots=one.slots, ties=one.ties, mismatches=one.mismatches, ratios=1)
    assert np.isfinite(scores).all()
    return found
