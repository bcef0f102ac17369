"""Dependence of a reply at its critical point: against transformers' eager attention under a mask, and differences."""

from typing import Any

import numpy as np
import pytest

from routegraph.validate.models.families import readable_types
from routegraph.validate.predict import dependence
from routegraph.validate.predict.dependence import SINKS, STEPS, Dependence, read_dependence
from routegraph.validate.predict.gates import gated_logits, gates_of
from routegraph.validate.presses.prefill import prefill
from tests.helpers.models import tiny_network
from tests.helpers.replies import CONTEXT, IDS, N_CONTEXT, N_QUESTION, QUESTION, REPLY, network


def read(model: Any) -> Dependence:
    import torch

    cache = prefill(model.model, torch.from_numpy(CONTEXT)[None])
    found = read_dependence(model, cache, QUESTION, REPLY)
    assert all(layer.keys.shape[2] == N_CONTEXT for layer in cache.layers)
    return found


def likelihood(family: str, settings: dict[str, Any], steps: Any) -> float:
    """Return the log-likelihood of the reply where slot weights fall by exp(-steps[context row]), in one pass."""
    import torch

    plain = tiny_network(family, **settings).double()
    plain.set_attn_implementation("eager")
    total = len(IDS) - 1
    mask = torch.full((total, total), torch.finfo(torch.float64).min, dtype=torch.float64).triu(1)
    mask[N_CONTEXT:, :N_CONTEXT] -= torch.from_numpy(np.asarray(steps, dtype=float))
    with torch.no_grad():
        ids, masks = torch.from_numpy(IDS[:-1])[None], mask[None, None]
        logits = plain(ids, attention_mask=masks, use_cache=False).logits[0].double()
    rows = np.arange(N_CONTEXT + N_QUESTION - 1, total)
    return float(logits[rows].log_softmax(-1)[range(len(REPLY)), REPLY].sum())


def faded(step: float) -> np.ndarray:
    steps = np.full(N_CONTEXT, step)
    steps[:SINKS] = 0
    return steps


# A mask of one's own replaces the sliding windows of a family that has them: those are compared in test_leads.
@pytest.mark.parametrize("family", [one for one in readable_types() if not one.startswith("gemma")])
def test_fall_and_parts_are_those_of_eager_attention(family, monkeypatch):
    monkeypatch.setattr(dependence, "STEPS", (1.5,))
    found = read(network(family))
    assert found.step == 1.5
    fall = likelihood(family, {}, faded(0)) - likelihood(family, {}, faded(1.5))
    assert found.fall == pytest.approx(fall, rel=1e-3, abs=2e-5)
    for row in (SINKS, N_CONTEXT - 1):  # all slots of a row at once: the sum of its parts
        near = np.zeros(N_CONTEXT)
        near[row] = 0.005
        ends = [likelihood(family, {}, faded(1.5) + sign * near) for sign in (-1, 1)]
        assert found.parts[..., row].sum() == pytest.approx((ends[0] - ends[1]) / 0.01, rel=0.01, abs=5e-4)
    assert not found.parts[..., :SINKS].any()


def test_one_part_is_the_derivative_by_one_gate():
    import torch

    model = network("llama")
    found = read(model)
    cache = prefill(model.model, torch.from_numpy(CONTEXT)[None])
    for slot in ((0, 1, 6), (2, 0, 8)):
        ends = []
        for sign in (-1, 1):
            gates = gates_of(model.model, cache, -found.step, SINKS).detach()
            gates[slot] += sign * 0.05
            with torch.no_grad():
                logits = gated_logits(model.model, cache, QUESTION, REPLY, gates).double()
            ends.append(float(logits.log_softmax(-1)[range(len(REPLY)), REPLY].sum()))
        assert found.parts[slot] == pytest.approx((ends[1] - ends[0]) / 0.1, rel=0.02, abs=1e-5)


def test_the_critical_point_is_the_first_step_at_which_so_much_is_lost(monkeypatch):
    falls = [likelihood("llama", {}, faded(0)) - likelihood("llama", {}, faded(step)) for step in STEPS]
    for bar in (max(falls[:1]) / 2, (falls[0] + max(falls)) / 2, max(falls) + 1):
        monkeypatch.setattr(dependence, "FALL", bar)
        passed = [step for step, fall in zip(STEPS, falls, strict=True) if fall >= bar]
        found = read(network("llama"))
        assert (found.step, found.critical) == (passed[0] if passed else STEPS[-1], bool(passed))


def test_question_and_reply_need_a_token():
    import torch

    model = network("llama")
    cache = prefill(model.model, torch.from_numpy(CONTEXT)[None])
    with pytest.raises(ValueError, match="question and reply need a token each"):
        read_dependence(model, cache, QUESTION, REPLY[:0])


def test_the_way_back_keeps_no_layers_attention():
    import torch

    model = network("llama")
    cache = prefill(model.model, torch.from_numpy(CONTEXT)[None])
    shapes: list[tuple[int, ...]] = []

    def note(tensor: Any) -> Any:
        shapes.append(tuple(tensor.shape))
        return tensor

    gates = gates_of(model.model, cache)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = gated_logits(model.model, cache, QUESTION, REPLY, gates)
    n_keys = len(IDS) - 1
    assert shapes
    assert not [shape for shape in shapes if shape[-1] == n_keys]
    (parts,) = torch.autograd.grad(logits.sum(), gates)
    assert parts.any()
