"""Decoding on a shared cache against kvpress's own pipeline on a real model, case by case, and its speed."""

import time

import numpy as np
import pytest

from routegraph.validate.decoding.decode import decode
from routegraph.validate.models.load import load
from routegraph.validate.presses import prefill
from routegraph.validate.prompts.prompt import bundled_prompts
from routegraph.validate.prompts.tokens import tokenise
from tests.helpers.decoding import QUESTION, TOLERANCE, against_kvpress, context, small, survivals

pytestmark = pytest.mark.verify

ITEMS, RATIOS, STEPS = 14, (0.3, 0.5, 0.7, 0.9, 0.95), 6


@pytest.fixture(scope="module")
def smollm2():
    import torch

    torch.set_num_threads(1)
    return load("smollm2")


@pytest.fixture(scope="module")
def items(smollm2):
    """The shortest prompts whose contexts can be cut into chunks of 64."""
    asked = sorted(
        (tokenise(smollm2, prompt) for prompt in bundled_prompts()), key=lambda found: len(found.context)
    )
    return [found for found in asked if not 0 < len(found.context) % 64 <= 4][:ITEMS]


@pytest.mark.parametrize("policy", ["topk", "adakv", "chunk"])
def test_decode_against_kvpress(record, smollm2, items, policy):
    """70 cases each, 210 together."""
    rows = [
        row
        for asked in items
        for row in against_kvpress(smollm2, asked.context, asked.question, RATIOS, STEPS, (policy,))
    ]
    assert len(rows) == ITEMS * len(RATIOS) == 70
    source = f"kvpress pipeline, {ITEMS} prompts, {len(RATIOS)} ratios, {STEPS} tokens each"
    record.value("same text", np.mean([row[2] for row in rows]), None, 1, len(rows), source)
    record.value("largest difference of a logit", max(row[4] for row in rows), None, 0, len(rows), source)
    if policy == "chunk":
        tied = np.mean([row[3] for row in rows])
        ties = "cases with a tie that kvpress broke another way, decoded with the rows it kept"
        record.value(ties, tied, None, 0, len(rows), source)
    assert all(row[2] for row in rows), [row for row in rows if not row[2]]
    assert max(row[4] for row in rows) < TOLERANCE


def test_decode_speed(record, smollm2, items):
    """Seconds for 19 variants in one batch, over those for one, on one core."""
    import torch

    asked = items[0]
    # The larger model keeps the core busy with its products; the tiny one mostly waits for the next call.
    for name, model, question in (("SmolLM2", smollm2, asked.question), ("tiny LLaMA", small(), QUESTION)):
        ids = asked.context if model is smollm2 else context()
        tables = survivals(model, ids)
        whole = np.ones((1, *tables["topk"].drop.shape), dtype=bool)
        some = [table.alive(ratio) for table in tables.values() for ratio in (*RATIOS, 0.98)]
        cache = prefill.prefill(model.model, torch.from_numpy(ids)[None])
        seconds = {}
        for kept in (whole, np.concatenate([whole, some])) * 3:
            started = time.perf_counter()
            decode(model, cache, question, kept, 16)
            seconds.setdefault(len(kept), []).append(time.perf_counter() - started)
        assert sorted(seconds) == [1, 19]
        ratio = min(seconds[19]) / min(seconds[1])
        record.value(
            f"time of 19 variants over time of one, {name}", ratio, None, 1, 3, "one core, 16 tokens each"
        )
        assert ratio < 19 / 2
