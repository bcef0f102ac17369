"""What evictions take from the routes of a question: against a slow twin, laws, and what it must not know."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph.validate.measure.routed import RESIDUAL, read_question
from routegraph.validate.measure.run import measure
from routegraph.validate.models.families import readable_types
from routegraph.validate.models.load import Loaded, load
from routegraph.validate.tasks import load_task
from tests.helpers.models import tiny_network
from tests.helpers.replies import network

N_CONTEXT, N_QUESTION = 11, 4


LLAMA = network("llama")
IDS = np.random.default_rng(0).integers(300, size=N_CONTEXT + N_QUESTION)


def routed(model: Loaded, kept: Any, n: int = N_CONTEXT) -> Any:
    return read_question(model, IDS[:n], IDS[n:], np.asarray(kept, dtype=bool))[1]


def naive(model: Loaded, kept: Any, n: int, settings: dict[str, Any]) -> tuple[float, float]:
    """Return drift and lost of one eviction, from the attention and the values that transformers itself gives."""
    import torch
    from transformers import DynamicCache

    plain = tiny_network(model.model.config.model_type, **settings)
    plain.set_attn_implementation("eager")
    cache = DynamicCache()
    found = plain(torch.from_numpy(IDS)[None], past_key_values=cache, output_attentions=True)
    n_layers, n_heads = kept.shape[:2]
    row = {len(IDS) - 1: 1.0}
    drift = lost = rows = whole = 0.0
    for layer in reversed(range(n_layers)):
        weights = found.attentions[layer][0].double().numpy()
        values = cache.layers[layer].values[0].double().numpy()
        project = plain.model.layers[layer].self_attn.o_proj.weight.double().numpy()
        group, width = len(weights) // n_heads, values.shape[-1]
        below = dict.fromkeys(range(n, len(IDS)), 0.0)
        for i, share in row.items():
            length = np.zeros(len(IDS))
            moved = size = 0.0
            for q, read in enumerate(weights):
                part = project[:, q * width : (q + 1) * width]
                added = values[q // group] @ part.T
                alive = np.append(kept[layer, q // group], np.ones(len(IDS) - n, dtype=bool))
                left = np.where(alive, read[i], 0)
                output = read[i] @ added
                moved += ((left / left.sum() @ added - output) ** 2).sum()
                size += (output**2).sum()
                each = ((read[i][:, None] * added) ** 2).sum(axis=1)
                whole += share * each[:n].sum()
                lost += share * each[~alive].sum()
                length += np.sqrt(each)
            drift += share * moved / size
            rows += share
            for j in range(n, len(IDS)):
                below[j] += (1 - RESIDUAL) * share * length[j] / length.sum()
            below[i] += RESIDUAL * share
        row = below
    return drift / rows, lost / whole if whole else lost  # nothing of the context lies in the windows


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *((family, {}) for family in readable_types()),
        ("mistral", {"sliding_window": 5}),
        ("gemma2", {"sliding_window": 4, "attn_logit_softcapping": 2.0}),
    ],
)
@pytest.mark.parametrize("n", [1, N_CONTEXT, N_CONTEXT + N_QUESTION - 1])
def test_is_what_the_slow_twin_finds(family, settings, n):
    model = network(family, **settings)
    kept = np.random.default_rng(n).random((3, model.n_layers, model.n_heads, n)) < 0.5
    kept[0] = False
    found = routed(model, kept, n)
    expected = np.array([naive(model, one, n, settings) for one in kept])
    assert found.drift == pytest.approx(expected[:, 0], rel=1e-4)
    assert found.lost == pytest.approx(expected[:, 1], rel=1e-4)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.floats(0, 1))
def test_more_gone_is_more_lost(seed, share):
    rng = np.random.default_rng(seed)
    some = rng.random((LLAMA.n_layers, LLAMA.n_heads, N_CONTEXT)) < share
    fewer = some & (rng.random(some.shape) < 0.7)
    nothing, everything = np.zeros_like(some), np.ones_like(some)
    found = routed(LLAMA, [everything, some, fewer, nothing])
    assert found.drift[0] == pytest.approx(0, abs=1e-9)
    assert found.lost[0] == 0
    assert np.all(np.diff(found.lost) >= -1e-9)
    assert found.lost[-1] == pytest.approx(1)
    assert np.all(found.drift >= 0)


def test_is_told_neither_answer_nor_evidence():
    model = load("llama-tiny")
    prompts = load_task("words_two_hop", 3)
    blind = [
        replace(prompt, answerable=False, answer="<idk>", evidence=(), answer_spans=()) for prompt in prompts
    ]
    options = {"policy_names": ["adakv"], "ratios": [0.5, 0.9], "max_new_tokens": 1, "metrics": True}
    told, untold = (measure(model, items, **options) for items in (prompts, blind))
    for name in ("routed_drift", "routed_lost"):
        assert np.isfinite(told.metrics[name]).all()
        assert (told.metrics[name][..., 1:] > 0).all()
        assert np.array_equal(told.metrics[name], untold.metrics[name])
