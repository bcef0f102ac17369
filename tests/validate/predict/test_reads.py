"""What a reply reads: against a slow twin from transformers' own attention, and the laws of what is lost."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph.validate.models.families import readable_types
from routegraph.validate.models.load import Loaded
from routegraph.validate.predict import forms
from routegraph.validate.predict.reads import ReplyReads, _run, read_reply
from routegraph.validate.predict.support import flow_sources
from routegraph.validate.presses.prefill import prefill
from tests.helpers.models import tiny_network
from tests.helpers.replies import CONTEXT, IDS, N_CONTEXT, N_QUESTION, QUESTION, REPLY, network


def read(model: Loaded, **more: Any) -> ReplyReads:
    import torch

    cache = prefill(model.model, torch.from_numpy(CONTEXT)[None])
    found = read_reply(model, cache, QUESTION, REPLY, **more)
    assert all(layer.keys.shape[2] == N_CONTEXT for layer in cache.layers)
    return found


def naive(model: Loaded, settings: dict[str, Any], kept: float | None, energy: bool) -> dict[str, Any]:
    """Return the same from what transformers itself gives for all tokens at once, row by row."""
    import torch
    from transformers import DynamicCache

    plain = tiny_network(model.model.config.model_type, **settings)
    plain.set_attn_implementation("eager")
    cache, mixed = DynamicCache(), []
    for layer in plain.model.layers:
        layer.self_attn.register_forward_hook(lambda _m, _a, output: mixed.append(output[0][0].double()))
    before_norm: list[Any] = []
    plain.model.norm.register_forward_pre_hook(lambda _m, args: before_norm.append(args[0][0].double()))
    ids = torch.from_numpy(IDS[:-1])[None]
    with torch.no_grad():
        found = plain.model(ids, past_key_values=cache, output_attentions=True, output_hidden_states=True)
        logits = plain.get_output_embeddings()(found.last_hidden_state)[0].double().numpy()
    states = [state[0].double() for state in found.hidden_states]
    n, total = N_CONTEXT, len(IDS) - 1
    first = n + N_QUESTION - 1
    rows, group = range(first, total), model.n_query_heads // model.n_heads
    flow = np.zeros((len(rows), model.n_layers, model.n_heads, n))
    added = np.zeros((len(rows), model.n_layers, model.n_query_heads, total))
    shares = np.zeros((model.n_layers, total - n))
    head = plain.get_output_embeddings().weight.detach().double().numpy()
    margins = []
    for r, row in enumerate(rows):
        top, other = np.argsort(-logits[row])[:2]
        margins.append(logits[row, top] - logits[row, other])
        state = before_norm[0][row].numpy()
        towards = (head[top] - head[other]) * (found.last_hidden_state[0, row].double().numpy() / state)
        mass = {row: 1.0}
        for layer in reversed(range(model.n_layers)):
            weights = found.attentions[layer][0].double().numpy()
            values = cache.layers[layer].values[0].double().numpy()
            project = plain.model.layers[layer].self_attn.o_proj.weight.detach().double().numpy()
            width = values.shape[-1]
            vectors = [
                values[q // group] @ project[:, q * width : (q + 1) * width].T for q in range(len(weights))
            ]
            for q, vector in enumerate(vectors):
                added[r, layer, q] = weights[q, row] * (vector @ towards)
            below: dict[int, float] = {}
            for i, share in mass.items():
                size, more = states[layer][i].norm().item(), mixed[layer][i].norm().item()
                rho = size / (size + more) if kept is None else kept
                shares[layer, i - n] = rho
                given = np.stack([weights[q, i] * np.linalg.norm(v, axis=1) for q, v in enumerate(vectors)])
                if energy:
                    given = given**2
                given *= share * (1 - rho) / given.sum()
                for q in range(len(weights)):
                    flow[r, layer, q // group] += given[q, :n]
                below[i] = below.get(i, 0.0) + share * rho
                for j in range(n, total):
                    below[j] = below.get(j, 0.0) + given[:, j].sum()
            mass = below
    attention = np.stack([a[0].double().numpy()[:, rows] for a in found.attentions]).transpose(2, 0, 1, 3)
    return {"flow": flow, "added": added, "attention": attention, "margins": margins, "kept": shares}


@pytest.mark.parametrize("kept", [None, 0.95])
@pytest.mark.parametrize("energy", [False, True])
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *((family, {}) for family in readable_types()),
        ("mistral", {"sliding_window": 5}),
        ("gemma2", {"sliding_window": 4, "attn_logit_softcapping": 2.0}),
    ],
)
def test_is_what_the_slow_twin_finds(family, settings, kept, energy):
    model = network(family, **settings)
    found, expected = read(model, kept=kept, energy=energy), naive(model, settings, kept, energy)
    close = {"rtol": 2e-3, "atol": 1e-5}
    np.testing.assert_allclose(found.flow, expected["flow"], **close)
    np.testing.assert_allclose(found.attention, expected["attention"][..., :N_CONTEXT], **close)
    by_group = expected["attention"][..., :N_CONTEXT].sum(0).reshape(*found.read.shape[:2], -1, N_CONTEXT)
    np.testing.assert_allclose(found.read, by_group.sum(2), **close)
    np.testing.assert_allclose(found.rest, expected["attention"][..., N_CONTEXT:].sum(-1), **close)
    np.testing.assert_allclose(found.added, expected["added"][..., :N_CONTEXT], **close)
    np.testing.assert_allclose(found.rest_added, expected["added"][..., N_CONTEXT:].sum(-1), **close)
    np.testing.assert_allclose(found.margins, expected["margins"], **close)
    seen = expected["kept"] > 0  # rows that no reply row gets to are not told by the twin
    np.testing.assert_allclose(found.kept[seen], expected["kept"][seen], **close)


READS = read(network("llama"))


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.floats(0, 1))
def test_more_gone_is_more_lost(seed, share):
    rng = np.random.default_rng(seed)
    shape = READS.flow.shape[1:]
    some = rng.random(shape) < share
    fewer = some & (rng.random(shape) < 0.7)
    alive = [np.ones_like(some), some, fewer, np.zeros_like(some)]
    for form in (forms.worst, forms.mean, forms.first, forms.attention_lost):
        values = [form(READS, one) for one in alive]
        assert values[0] == pytest.approx(0, abs=1e-6)
        assert values[-1] == pytest.approx(1)
        assert np.all(np.diff(values) >= -1e-9)
    tokens = np.array([2, 5])
    for values in (
        [forms.sources_ger(one, tokens) for one in alive],
        [forms.sources_lost(READS, one, tokens) for one in alive],
    ):
        assert (values[0], values[-1]) == (0, pytest.approx(1))
        assert np.all(np.diff(values) >= -1e-9)


def test_margins_are_those_of_the_full_cache_where_nothing_is_gone():
    whole = np.ones(READS.flow.shape[1:], dtype=bool)
    np.testing.assert_allclose(forms.margins_left(READS, whole), READS.margins, rtol=1e-4)
    assert forms.margin_left(READS, whole) == pytest.approx(-READS.margins.min(), rel=1e-4)


def test_a_margin_left_is_the_sum_over_heads_renormalised():
    alive = np.random.default_rng(1).random(READS.flow.shape[1:]) < 0.5
    group = READS.attention.shape[2] // alive.shape[1]
    expected = READS.margins.copy()
    for r, layer, q in np.ndindex(READS.attention.shape[:3]):
        kept = alive[layer, q // group]
        before = READS.added[r, layer, q].sum() + READS.rest_added[r, layer, q]
        after = READS.added[r, layer, q][kept].sum() + READS.rest_added[r, layer, q]
        weight = READS.attention[r, layer, q][kept].sum() + READS.rest[r, layer, q]
        expected[r] += after / weight - before
    np.testing.assert_allclose(forms.margins_left(READS, alive), expected, rtol=1e-3, atol=1e-5)


def test_the_last_layer_attributes_what_its_attention_adds():
    model = network("llama")
    found = read(model)
    import torch

    outputs, ends = [], []
    last = model.model.model.layers[-1].self_attn
    last.register_forward_hook(lambda _m, _a, output: outputs.append(output[0][0]))
    model.model.model.norm.register_forward_hook(lambda _m, args, out: ends.append((args[0][0], out[0])))
    with torch.no_grad():
        logits = model.model(torch.from_numpy(IDS[:-1])[None]).logits[0]
    head = model.model.get_output_embeddings().weight
    for r, row in enumerate(range(N_CONTEXT + N_QUESTION - 1, len(IDS) - 1)):
        top, other = logits[row].topk(2).indices
        state, normed = (part[row] for part in ends[0])
        expected = (outputs[0][row] @ ((head[top] - head[other]) * normed / state)).item()
        assert found.added[r, -1].sum() + found.rest_added[r, -1].sum() == pytest.approx(
            expected, rel=1e-3, abs=1e-5
        )


def test_anchored_lies_between_its_ends():
    full, empty = np.array([4.0, 2.0]), np.array([-4.0, 1.0])
    for lost, expected in (([0, 0], -2), ([1, 1], 4), ([0.5, 0], 0), ([0, 1], -1), ([0.75, 0], 2)):
        assert forms.anchored(np.array(lost, dtype=float), full, empty) == expected


def test_log_odds():
    likely = np.log([0.5, 0.9, 1.0, 1e-9])
    found = forms.log_odds(likely)
    assert found[:2] == pytest.approx([0, np.log(9)])
    assert np.all(np.isfinite(found))
    assert found[3] == pytest.approx(np.log(1e-9))


def test_sources_of_nothing_are_nowhere():
    nothing = np.empty(0, dtype=np.int64)
    assert forms.sources_ger(np.zeros(READS.flow.shape[1:], dtype=bool), nothing) == 0
    assert forms.sources_lost(READS, np.zeros(READS.flow.shape[1:], dtype=bool), nothing) == 0
    top = flow_sources(READS, 3)
    assert len(top) == 3
    given = READS.flow.sum(axis=(0, 1, 2))
    assert given[top].min() >= np.delete(given, top).max()


def test_question_and_reply_need_tokens():
    import torch

    model = network("llama")
    cache = prefill(model.model, torch.from_numpy(CONTEXT)[None])
    with pytest.raises(ValueError, match="question and reply need a token each"):
        read_reply(model, cache, QUESTION, REPLY[:0])


def test_no_more_is_kept_of_a_layer_than_slots_and_the_rows_of_the_reply():
    import torch

    model = network("llama")
    cache = prefill(model.model, torch.from_numpy(CONTEXT)[None])
    record, n = _run(model, cache, QUESTION, REPLY, None, True)
    n_keys = len(IDS) - 1
    n_after = n_keys - n
    for layer in record.layers:
        held = sum(part.untyped_storage().nbytes() for part in (layer.slots, layer.attention))
        assert held == 4 * n_keys * (model.n_heads * n_after + model.n_query_heads * len(REPLY))
