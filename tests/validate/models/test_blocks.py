"""Long contexts some rows at a time: the same numbers, no more rows at once, and the model as it was."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from routegraph.validate.measure.run import measure  # noqa: E402
from routegraph.validate.models import blocks  # noqa: E402
from routegraph.validate.models.families import readable_types  # noqa: E402
from routegraph.validate.models.load import load  # noqa: E402
from routegraph.validate.presses.prefill import prefill  # noqa: E402
from routegraph.validate.tasks import load_task  # noqa: E402
from tests.helpers.models import random_ids, tiny_network  # noqa: E402

N = 50
WINDOWED = [
    ("mistral", {"sliding_window": 7}),
    ("gemma2", {"sliding_window": 7}),
    ("gemma3_text", {"sliding_window": 7}),
]
CASES = [*((family, {}) for family in readable_types()), *WINDOWED]


def rows_of(cache):
    return [torch.cat([layer.keys, layer.values], dim=-1) for layer in cache.layers]


@pytest.mark.parametrize("repeated", [False, True], ids=["sdpa", "repeated"])
@pytest.mark.parametrize(("family", "settings"), CASES)
def test_the_same_numbers(family, settings, repeated, monkeypatch):
    network = tiny_network(family, **settings)
    capped = network.config._attn_implementation != "sdpa"
    plain = rows_of(prefill(network, random_ids(N)))
    monkeypatch.setattr(blocks, "ROWS", 16)
    if repeated and not capped:
        monkeypatch.setattr(blocks, "_holds_all_weights", lambda network: True)
    seen = []
    handles = [
        layer.mlp.down_proj.register_forward_hook(lambda module, given, made: seen.append(given[0].shape[1]))
        for layer in network.base_model.layers
    ]
    before = network.config._attn_implementation
    found = rows_of(prefill(network, random_ids(N)))
    for handle in handles:
        handle.remove()
    assert seen == [16, 16, 16, 2] * 3
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert network.config._attn_implementation == before
    assert all("forward" not in vars(layer.mlp) for layer in network.base_model.layers)


def test_short_contexts_are_run_as_transformers_does(monkeypatch):
    network = tiny_network("llama")
    plain = rows_of(prefill(network, random_ids(N)))
    monkeypatch.setattr(blocks, "_mlps_in_blocks", lambda network: 1 / 0)
    monkeypatch.setattr(blocks, "ROWS", N)
    assert all(
        torch.equal(a, b) for a, b in zip(rows_of(prefill(network, random_ids(N))), plain, strict=True)
    )


def test_a_forward_of_one_s_own_is_put_back(monkeypatch):
    network = tiny_network("llama")
    mlp = network.base_model.layers[1].mlp
    own = mlp.forward = lambda states, usual=mlp.forward: 0.5 * usual(states)
    plain = rows_of(prefill(network, random_ids(N)))
    monkeypatch.setattr(blocks, "ROWS", 20)
    found = rows_of(prefill(network, random_ids(N)))
    assert mlp.forward is own
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("device", "dtype", "kv_heads", "implementation", "held"),
    [
        ("cuda", torch.float32, 2, "sdpa", True),
        ("cuda", torch.bfloat16, 2, "sdpa", False),
        ("cuda", torch.float32, 4, "sdpa", False),
        ("cuda", torch.float32, 2, "routegraph_capped", False),
        ("cpu", torch.float32, 2, "sdpa", False),
    ],
)
def test_where_torch_would_hold_all_weights(device, dtype, kv_heads, implementation, held):
    config = SimpleNamespace(
        num_attention_heads=4, num_key_value_heads=kv_heads, _attn_implementation=implementation
    )
    network = SimpleNamespace(config=config, device=torch.device(device), dtype=dtype)
    assert blocks._holds_all_weights(network) is held


def test_long_passes_are_told_layer_by_layer(monkeypatch):
    told = []
    prompts = load_task("words_forward", 2, 0, None)
    arguments = {"policy_names": ["topk"], "ratios": [0.5], "chunk_length": 16}

    def progress(done, total, label):
        told.append((done, total, label))

    measure("llama-tiny", prompts, progress=progress, **arguments)
    assert not any("layer" in label for _, _, label in told)
    monkeypatch.setattr(blocks, "LONG", 50)  # contexts are longer, questions and replies shorter
    told.clear()
    measure("llama-tiny", prompts, progress=progress, **arguments)
    layers = [one for one in told if "layer" in one[2]]
    n_layers = load("llama-tiny").n_layers
    expected = [
        (k, 2, f"{prompt.id}, layer {layer}/{n_layers}")
        for k, prompt in enumerate(prompts)
        for layer in range(1, n_layers + 1)
    ]
    assert layers == expected
