"""Block recomputation of q.k against transformers' own eager attention, on every family."""

import numpy as np
import pytest
from scipy.special import xlogy

torch = pytest.importorskip("torch")

from routegraph.trace import Trace  # noqa: E402
from routegraph.validate.models import blocks  # noqa: E402
from routegraph.validate.models.attention import implementation  # noqa: E402
from routegraph.validate.models.families import readable_types  # noqa: E402
from routegraph.validate.presses import prefill  # noqa: E402
from routegraph.validate.presses.scorers import SCORERS  # noqa: E402
from routegraph.validate.prompts.prompt import read_prompts  # noqa: E402
from routegraph.validate.traces import read_graph  # noqa: E402
from routegraph.validate.traces.extract import extract  # noqa: E402
from tests.helpers.models import PARTICULAR  # noqa: E402

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}


def tiny(family, attention, **settings):
    import transformers

    config = transformers.AutoConfig.for_model(family, **{**SIZES, **PARTICULAR.get(family, {}), **settings})
    torch.manual_seed(0)
    running = attention or implementation(config)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=running).eval()
    # The default initialisation attends almost evenly; sharpen it so that there is something to get wrong.
    with torch.no_grad():
        for layer in model.base_model.layers:
            if family == "phi3":
                layer.self_attn.qkv_proj.weight[:32].mul_(20)
            else:
                layer.self_attn.q_proj.weight.mul_(20)
    return model


WINDOWED = [
    ("mistral", {"sliding_window": 12}),
    ("gemma2", {"sliding_window": 150, "attn_logit_softcapping": 1.0}),
    ("gemma3_text", {"sliding_window": 3}),
]


@pytest.mark.parametrize(("family", "settings"), [*((family, {}) for family in readable_types()), *WINDOWED])
@pytest.mark.parametrize("n", [5, 200])
@pytest.mark.parametrize("shared", [False, True])
def test_what_is_read_is_eager_attention(family, settings, n, shared, monkeypatch):
    # Padding tokens, which some configurations name by default, are embedded as zeros: their rows are all ties.
    ids = torch.from_numpy(np.random.default_rng(n).integers(3, 97, (1, n)))
    with torch.no_grad():
        eager = tiny(family, "eager", **settings)(ids, output_attentions=True).attentions
    recorder = read_graph.GraphRecorder(n_sink=2)
    tables = {"scores": (SCORERS["expected_attention"](), None)}
    model = tiny(family, None, **settings)
    plain = prefill.prefill_tables(model, ids, tables)["scores"]
    # Of a longer context the model's own attention is ours.
    monkeypatch.setattr(blocks, "ROWS", 4 if shared else 200)
    inside, before = recorder.attending(model, n), model.config._attn_implementation
    scores = prefill.prefill_tables(model, ids, tables, recorder.hook, inside)["scores"]
    assert model.config._attn_implementation == before
    assert np.allclose(scores, plain, rtol=1e-3, atol=1e-5) if shared else np.array_equal(scores, plain)
    recorded = recorder.recorded(2, n)
    graph = recorded["graph"]
    layer, head, query, key = graph.edges()
    for number, attention in enumerate(eager, start=1):
        full = attention[0].numpy()
        assert np.array_equal(recorded["tops"][number - 1], full.argmax(-1))
        beyond = full[..., 2:].argmax(-1) + 2
        beyond[full[..., 2:].max(-1) == 0] = -1
        assert np.array_equal(recorded["tops_without_sink"][number - 1], beyond)
        received = full.reshape(2, 2, n, n).sum(axis=(1, 2))
        assert recorded["attention"][number - 1] == pytest.approx(received, rel=1e-4, abs=1e-4)
        assert recorded["sink_mass"][number - 1] == pytest.approx(full[..., :2].sum(-1).mean(-1), abs=1e-4)
        spread = -xlogy(full, full).sum(-1).mean(-1)
        assert recorded["entropy"][number - 1] == pytest.approx(spread, abs=1e-3)
        here = layer == number
        rows = here & (query == n - 1) & (head == 1)
        last = full[2:4, n - 1]
        expected = np.concatenate([row[np.argsort(-row)[: max(16, (row >= 0.01).sum())]] for row in last])
        assert np.sort(graph.weight[rows]) == pytest.approx(np.sort(expected[expected > 0]), abs=1e-4)
        sums = np.zeros((2, n))
        np.add.at(sums, (head[here], key[here]), graph.weight[here])
        heavy = np.where(
            (full >= np.sort(full, axis=-1)[..., -min(16, n)][..., None]) | (full >= 0.01), full, 0
        )
        assert sums == pytest.approx(heavy.reshape(2, 2, n, n).sum(axis=(1, 2)), abs=1e-2)
        assert recorded["kept_mass"][number - 1] == pytest.approx(heavy.sum(-1).mean(), abs=1e-4)


def test_extraction_keeps_graphs_and_changes_no_score(smollm2, tmp_path):
    prompts = read_prompts("bundled")[:2]
    plain, with_graphs = extract(smollm2, prompts), extract(smollm2, prompts, graphs=True)
    for a, b in zip(plain, with_graphs, strict=True):
        assert a.graph is None
        for scorer in a.scores:
            assert np.array_equal(a.scores[scorer], b.scores[scorer])
        assert b.graph.n_layers == 30
        layer = b.graph.edges()[0]
        held = np.bincount(layer, weights=b.graph.weight)[1:] / (9 * b.n_context)
        assert b.kept_mass == pytest.approx(held, abs=1e-5)
        assert (b.kept_mass <= 1 + 1e-6).all()
        assert b.kept_mass.mean() > 0.85  # layer 1 is diffuse (.70), the others hold .88 and more
        assert b.tops.shape == (30, 9, b.n_context)
        assert (b.tops_without_sink[:, :, 10:] >= 4).all()
    Trace.save(tmp_path / "t.npz", with_graphs, {})
    again = Trace.load(tmp_path / "t.npz")[1]
    assert np.array_equal(again.graph.slot, with_graphs[1].graph.slot)
    assert np.array_equal(again.graph.weight, with_graphs[1].graph.weight)
    assert np.array_equal(again.tops, with_graphs[1].tops)
