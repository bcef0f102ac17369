"""Which families are read, which are refused, and that each gives its own queries."""

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from routegraph.validate.models import families as module  # noqa: E402
from routegraph.validate.models.families import (  # noqa: E402
    Family,
    check_family,
    families,
    readable_types,
    rotated_queries,
)
from routegraph.validate.models.load import load  # noqa: E402
from routegraph.validate.presses import prefill  # noqa: E402
from routegraph.validate.presses.scorers import SCORERS  # noqa: E402
from tests.helpers.commands import run  # noqa: E402
from tests.helpers.models import random_ids, tiny_network  # noqa: E402
from tests.helpers.tokenizer import VOCABULARY, byte_level_tokenizer  # noqa: E402


def config(kind, **settings):
    from transformers import AutoConfig

    return AutoConfig.for_model(kind, **settings)


def test_what_is_read():
    assert list(families) == [
        "gemma2",
        "gemma3",
        "gemma3_vision",
        "granite",
        "llama",
        "mistral",
        "olmo2",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
    ]
    assert readable_types() == [
        "gemma2",
        "gemma3_text",
        "granite",
        "llama",
        "mistral",
        "olmo2",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
    ]


@pytest.mark.parametrize("kind", readable_types())
def test_families_are_welcome(kind):
    assert kind in check_family(config(kind), "any").model_types


@pytest.mark.parametrize(
    ("kind", "settings", "windows"),
    [
        ("llama", {"sliding_window": 9}, (0, 0, 0)),  # LLaMA's code has no use for it
        ("mistral", {"sliding_window": 9}, (9, 9, 9)),
        ("mistral", {"sliding_window": None}, (0, 0, 0)),
        ("phi3", {"sliding_window": 9}, (9, 9, 9)),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}, (0, 9, 9)),
        ("qwen2", {"sliding_window": 9}, (0, 0, 0)),
        ("gemma2", {"sliding_window": 9}, (9, 0, 9)),
        ("gemma3_text", {"sliding_window": 9, "sliding_window_pattern": 2}, (9, 0, 9)),
        ("smollm3", {"sliding_window": 9}, (0, 0, 0)),
    ],
)
def test_windows_of_the_layers(kind, settings, windows):
    found = config(kind, num_hidden_layers=3, **settings)
    assert check_family(found, "m").windows(found) == windows


@pytest.mark.parametrize("kind", readable_types())
def test_queries_are_those_that_the_model_attends_with(kind):
    """What the attention function is given is what the adapter makes, to the last bit."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as FUNCTIONS

    network = tiny_network(kind)
    running = network.config._attn_implementation
    original = FUNCTIONS[running]
    for parameter in network.parameters():
        if parameter.ndim == 1:  # norms and biases: ones and zeros would hide that they are left out
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    given, made = [], []

    def attend(attention, query, *args, **kwargs):
        given.append(query[0].numpy())
        return original(attention, query, *args, **kwargs)

    def hook(attention, _args, kwargs, _output):
        made.append(rotated_queries(attention, kwargs).numpy())

    handles = [m.register_forward_hook(hook, with_kwargs=True) for m in prefill.attention_modules(network)]
    FUNCTIONS[running] = attend
    try:
        prefill.prefill(network, random_ids(20))
    finally:
        FUNCTIONS[running] = original
        for handle in handles:
            handle.remove()
    assert np.array(made).shape == (3, 4, 20, 16)
    np.testing.assert_array_equal(made, given)


def test_what_is_not_read_is_refused_in_one_sentence():
    chunks = ["chunked_attention", "full_attention"]
    for refused, words in (
        (config("gemma3"), "'m' reads images, too; choose a text model"),
        (
            config("llama", layer_types=chunks),
            "'m' has layers of kind 'chunked_attention'.*choose a model with",
        ),
        (
            config("gemma3_text", use_bidirectional_attention=True),
            "'m' lets tokens see later ones.*choose a causal",
        ),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            check_family(refused, "m")
        assert "\n" not in str(caught.value)


def test_an_unknown_family_is_refused_and_can_be_registered(monkeypatch):
    words = "'m' is of family 'gpt2'; choose one of: gemma2, .* qwen3, smollm3, or register it with @family"
    with pytest.raises(ValueError, match=words):
        check_family(config("gpt2"), "m")
    with pytest.raises(ValueError, match="is of family 'gpt2'"):
        rotated_queries(type("Attention", (), {"config": config("gpt2")})(), {})
    monkeypatch.setattr(families, "_functions", dict(families._functions))

    @module.family("mine")
    def mine() -> Family:
        """Mine: for this test."""
        return Family(("gpt2",), queries=lambda attention, kwargs: kwargs["hidden_states"] * 2)

    assert check_family(config("gpt2"), "m") == mine() or "gpt2" in readable_types()
    attention = type("Attention", (), {"config": config("gpt2")})()
    assert rotated_queries(attention, {"hidden_states": 21}) == 42


def test_adapters_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        families["llama"]().readable = False


def test_families_and_scorers_are_listed(capsys):
    status, out, _ = run(capsys, "list", "--json")
    listed = json.loads(out)
    assert status == 0
    assert set(listed["family"]) == set(families)
    assert listed["scorer"]["snapkv"]["parameters"] == {"window": 64, "kernel_size": 5}
    assert all(entry["summary"] for kind in ("family", "scorer") for entry in listed[kind].values())


class TestInMemory:
    def test_a_loaded_model_is_taken_as_it_is(self):
        network = tiny_network("qwen3", vocabulary=VOCABULARY).train()
        loaded = load(network, tokenizer=byte_level_tokenizer())
        assert loaded.model is network
        assert not network.training
        assert (loaded.name, loaded.n_layers, loaded.n_heads) == ("Qwen3ForCausalLM", 3, 2)
        assert load(loaded) is loaded

    def test_what_cannot_be_used_is_refused(self):
        network = tiny_network("llama")
        with pytest.raises(
            ValueError, match=r"in memory and needs its tokenizer: load\(model, tokenizer=...\)"
        ):
            load(network)
        with pytest.raises(ValueError, match="a model is a name, a path, or a transformers model .* got int"):
            load(3)
        with pytest.raises(ValueError, match="'smollm2' brings its own"):
            load("smollm2", tokenizer=byte_level_tokenizer())
        for attention in ("eager", "flex_attention"):
            network.config._attn_implementation = attention
            with pytest.raises(
                ValueError, match=rf'runs {attention} attention.*set_attn_implementation\("sdpa"\)'
            ):
                load(network, tokenizer=byte_level_tokenizer())
            with pytest.raises(ValueError, match=f"runs {attention} attention"):
                prefill.prefill_scores(network, random_ids(), SCORERS["knorm"]())
