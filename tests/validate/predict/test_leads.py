"""What slots give to the lead of a token: against transformers' own attention, and against small changes."""

from typing import Any

import numpy as np
import pytest

from routegraph.validate.decoding.decode import score
from routegraph.validate.models.families import readable_types
from routegraph.validate.predict.leads import Leads, read_leads
from routegraph.validate.presses.prefill import prefill
from tests.helpers.models import tiny_network
from tests.helpers.replies import CONTEXT, IDS, N_CONTEXT, N_QUESTION, QUESTION, REPLY, network


def read(model: Any) -> Leads:
    import torch

    cache = prefill(model.model, torch.from_numpy(CONTEXT)[None])
    found = read_leads(model, cache, QUESTION, REPLY)
    assert all(layer.keys.shape[2] == N_CONTEXT for layer in cache.layers)
    return found


def naive(family: str, settings: dict[str, Any]) -> tuple[Any, Any]:
    """Return leads and parts from transformers' eager attention: a (v - o) times the gradient by the heads' outputs."""
    import torch
    from transformers import DynamicCache

    plain = tiny_network(family, **settings).requires_grad_(True)
    plain.set_attn_implementation("eager")
    cache, outputs = DynamicCache(), []
    for layer in plain.model.layers:
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _m, args: outputs.append(args[0]))
    found = plain(
        torch.from_numpy(IDS[:-1])[None], past_key_values=cache, output_attentions=True, use_cache=True
    )
    leads, parts = [], []
    for r, row in enumerate(range(N_CONTEXT + N_QUESTION - 1, len(IDS) - 1)):
        logits = found.logits[0, row]
        others = torch.cat([logits[: REPLY[r]], logits[REPLY[r] + 1 :]]).max()
        lead = logits[REPLY[r]] - others
        leads.append(lead.item())
        gradients = torch.autograd.grad(lead, outputs, retain_graph=True)
        part = []
        for layer, gradient in enumerate(gradients):
            weights = found.attentions[layer][0].detach().double().numpy()
            values = cache.layers[layer].values[0].detach().double().numpy()
            width, group = values.shape[-1], len(weights) // len(values)
            by_head = np.zeros((len(values), N_CONTEXT))
            for q, read_by in enumerate(weights):
                own = slice(q * width, (q + 1) * width)
                slope = gradient[0, :, own].double().numpy()
                output = outputs[layer][0, :, own].detach().double().numpy()
                for t in range(N_CONTEXT, len(IDS) - 1):  # rows of the context had read before
                    apart = values[q // group][:N_CONTEXT] - output[t]
                    by_head[q // group] += read_by[t, :N_CONTEXT] * (apart @ slope[t])
            part.append(by_head)
        parts.append(part)
    return np.array(leads), np.array(parts)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        *((family, {}) for family in readable_types()),
        ("mistral", {"sliding_window": 5}),
        ("gemma2", {"sliding_window": 4, "attn_logit_softcapping": 2.0}),
    ],
)
def test_is_what_the_slow_twin_finds(family, settings):
    found, (leads, parts) = read(network(family, **settings)), naive(family, settings)
    np.testing.assert_allclose(found.leads, leads, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.parts, parts, rtol=2e-3, atol=2e-6)


def test_what_is_left_is_the_lead_without_the_parts_of_dead_slots():
    found = read(network("llama"))
    whole = np.ones(found.parts.shape[1:], dtype=bool)
    assert found.left(whole) == pytest.approx(found.leads)
    assert found.left(~whole) == pytest.approx(found.leads - found.parts.sum(axis=(1, 2, 3)), rel=1e-4)
    one = whole.copy()
    one[0, 1, 4] = False
    assert found.left(one) == pytest.approx(found.leads - found.parts[:, 0, 1, 4], rel=1e-6)


def test_the_model_is_as_before():
    import torch

    model = network("llama")
    whole = np.ones((1, model.n_layers, model.n_heads, N_CONTEXT), dtype=bool)
    before = score(model, CONTEXT, QUESTION, REPLY, whole).log_probabilities
    with pytest.raises(ValueError, match="question and reply need a token each"):
        read_leads(model, prefill(model.model, torch.from_numpy(CONTEXT)[None]), QUESTION[:0], REPLY)
    read(model)
    after = score(model, CONTEXT, QUESTION, REPLY, whole).log_probabilities
    assert np.array_equal(after, before)
