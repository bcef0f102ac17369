"""Models from GGUF files: the same logits and the same tokens, or one plain sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from routegraph.validate.models import cache, convert, size  # noqa: E402
from routegraph.validate.models.gguf_tokenizer import save_tokenizer  # noqa: E402
from routegraph.validate.models.load import load  # noqa: E402
from routegraph.validate.prompts.prompt import Prompt  # noqa: E402
from routegraph.validate.traces.extract import extract  # noqa: E402
from tests.helpers.models import random_ids, tiny_network  # noqa: E402

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
#: Gemma has norms on both sides of a block's halves, and its files hold every norm's weight plus one.
GEMMA = {
    **LAYER,
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
PRE = {"llama": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2", "gemma2": "gpt-2", "gemma3": "gpt-2"}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ROUTEGRAPH_CACHE", str(folder))
    return folder


def vocabulary() -> list[str]:
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return ["<|begin|>", "<|end|>", "<tool>", *letters, "Ġt", "12", "123", "Ġthe"]


def write_gguf(
    path: Path,
    network: Any,
    pre: str = "",
    model: str = "gpt2",
    merges: Any = ("Ġ t", "1 2", "12 3"),
    without: str = "",
    **settings: Any,
) -> Path:
    """Write a tiny network as llama.cpp's converter would, unquantised, rows of LLaMA's q and k in rotary pairs."""
    import gguf

    family, tokens = network.config.model_type.removesuffix("_text"), vocabulary()
    writer = gguf.GGUFWriter(path, family)
    config = network.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_rope_dimension_count(16)
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    writer.add_rope_freq_base(rope["rope_theta"])
    if family.startswith("gemma"):
        writer.add_sliding_window(config.sliding_window)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre or PRE[family])
    tokens += [f"[PAD{number}]" for number in range(config.vocab_size - len(tokens))]
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 4] + [1] * (len(tokens) - 3))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for key, value in settings.items():
        if key == "tensor":
            writer.add_tensor(*value)
        elif key == "scaling":
            writer.add_rope_scaling_type(gguf.RopeScalingType(value))
        else:
            getattr(writer, key)(*value if isinstance(value, tuple) else (value,))
    state = network.state_dict()
    plain = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    if config.tie_word_embeddings:
        del plain["output"]
    names = {f"{gguf_name}.weight": f"{ours}.weight" for gguf_name, ours in plain.items()}
    for layer in range(config.num_hidden_layers):
        for gguf_name, ours in (GEMMA if family.startswith("gemma") else LAYER).items():
            for part in ("weight", "bias"):
                names[f"blk.{layer}.{gguf_name}.{part}"] = f"model.layers.{layer}.{ours}.{part}"
    for gguf_name, ours in names.items():
        if ours not in state or gguf_name == without:
            continue
        array = state[ours].numpy()
        if family == "llama" and ours.endswith(("q_proj.weight", "k_proj.weight")):
            array = array.reshape(-1, 2, 8, 64).swapaxes(1, 2).reshape(array.shape)
        if family.startswith("gemma") and "norm" in gguf_name:
            array = array + 1
        writer.add_tensor(gguf_name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def shaken(family: str, **settings: Any) -> Any:
    """A tiny network whose norms and biases are no ones and zeros, so that a lost one is seen."""
    network = tiny_network(family, **settings)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    return network


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_same_logits_and_tokens_inside_the_embedding(tmp_path, capfd, family):
    network = shaken(family)
    loaded = load(write_gguf(tmp_path / "tiny.Q8.gguf", network))
    assert capfd.readouterr() == ("", "")
    assert (loaded.name, loaded.n_layers, loaded.n_heads, loaded.head_dim) == ("tiny.Q8", 3, 2, 16)
    assert loaded.model.config._attn_implementation == "sdpa"
    assert not loaded.model.training
    with torch.no_grad():
        expected, found = (one(random_ids()).logits for one in (network, loaded.model))
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    tokenizer = loaded.tokenizer
    assert tokenizer.is_fast
    assert max(tokenizer.get_vocab().values()) == 299
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|begin|>", "<|end|>", None)
    begin = [0] if family == "llama" else []
    ids = tokenizer("a<|end|>b<tool>").input_ids
    assert ids == [*begin, *tokenizer.convert_tokens_to_ids(["a", "<|end|>", "b", "<tool>"])]
    trace = extract(loaded, [Prompt(id="p", context="the cat in the hat", answer_spans=((4, 7),))])[0]
    assert "".join(trace.context[a:b] for a, b in trace.offsets[trace.answer]).strip() == "cat"
    assert trace.n_context == len(tokenizer(trace.context).input_ids)


ROPE = {"rope_theta": 10000.0}
PLAIN = {**ROPE, "rope_type": "default"}
LINEAR = {"rope_type": "linear", "factor": 8.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
EIGHT = np.arange(1, 9, dtype=np.float32)


def llama3_factors() -> np.ndarray:
    """What llama.cpp's converter writes for Llama 3.1: by how much each of eight frequencies is divided."""
    factors = []
    for power in range(8):
        length = 2 * np.pi * 10000 ** (power / 8)
        smooth = (8192 / length - 1) / (4 - 1)
        factors.append(1 if length < 8192 / 4 else 8 if length > 8192 else 1 / ((1 - smooth) / 8 + smooth))
    return np.array(factors, dtype=np.float32)


@pytest.mark.parametrize(
    ("family", "settings", "written"),
    [
        (
            "llama",
            {"rope_parameters": {**ROPE, **LINEAR}},
            {"scaling": "linear", "add_rope_scaling_factor": 8.0},
        ),
        (
            "qwen2",
            {"rope_parameters": {**ROPE, **YARN}},
            {"scaling": "yarn", "add_rope_scaling_factor": 4.0, "add_rope_scaling_orig_ctx_len": 128},
        ),
        (
            "llama",
            {"rope_parameters": {**ROPE, **LLAMA3}},
            {"tensor": ("rope_freqs.weight", llama3_factors())},
        ),
        (
            "gemma2",
            {"sliding_window": 20, "query_pre_attn_scalar": 16, "tie_word_embeddings": True},
            {"add_attn_logit_softcapping": 20.0, "add_final_logit_softcapping": 30.0},
        ),
        (
            "gemma3_text",
            {
                "sliding_window": 20,
                "query_pre_attn_scalar": 16,
                "num_hidden_layers": 6,
                "tie_word_embeddings": True,
                "sliding_window_pattern": 6,
                "rope_parameters": {"full_attention": {**ROPE, **LINEAR}, "sliding_attention": PLAIN},
            },
            {"scaling": "linear", "add_rope_scaling_factor": 8.0},
        ),
    ],
)
def test_what_transformers_passes_over_is_read(tmp_path, family, settings, written):
    """Scaled positions, windows, soft caps and scales: the same logits."""
    network = shaken(family, **settings)
    loaded = load(write_gguf(tmp_path / "tiny.gguf", network, **written))
    assert loaded.model.config._attn_implementation == network.config._attn_implementation
    with torch.no_grad():
        expected, found = (one(random_ids()).logits for one in (network, loaded.model))
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("pre", "text", "tokens"),
    [
        ("gpt-2", "a 123 I'll", ["a", "Ġ", "123", "Ġ", "I", "'", "l", "l"]),
        ("smollm", "a 123", ["a", "Ġ", "1", "2", "3"]),
        ("qwen2", "x123", ["x", "1", "2", "3"]),
        ("qwen2", "u\u0308", ["Ã", "¼"]),  # composed to one letter first
        ("llama-bpe", "x12312", ["<|begin|>", "x", "123", "12"]),
        ("llama-bpe", "u\u0308", ["<|begin|>", "u", "Ì", "Ī"]),
        (
            "llama-bpe",
            " the",
            ["<|begin|>", "Ġthe"],
        ),  # no merge leads to it; a word of the vocabulary is taken whole
        ("gpt-2", " the", ["Ġt", "h", "e"]),
    ],
)
def test_pre_tokenizers(tmp_path, pre, text, tokens):
    from transformers import AutoTokenizer

    words = vocabulary()
    fields = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [3, 3, 4] + [1] * (len(words) - 3),
        "tokenizer.ggml.merges": ["Ġ t", "1 2", "12 3"],
        "tokenizer.ggml.bos_token_id": 0,
    }
    save_tokenizer(fields, tmp_path, 100)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids) == tokens
    (tmp_path / "other").mkdir()
    begins = pre == "llama-bpe"
    save_tokenizer({**fields, "tokenizer.ggml.add_bos_token": not begins}, tmp_path / "other", 100)
    other = AutoTokenizer.from_pretrained(tmp_path / "other")
    assert (other(text).input_ids[0] == 0) != begins
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["bos_token"] == "<|begin|>"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"pre": "tekken"},
            "cannot build a gpt2/tekken tokenizer .* gpt2/gpt-2, gpt2/llama-bpe, gpt2/qwen2, gpt2/smollm",
        ),
        ({"merges": ["Ġt h"]}, "the tokenizer of '.*a.gguf' cannot be built: .* out of vocabulary"),
        ({"model": "llama"}, "cannot build a llama/llama-bpe tokenizer"),
        ({"add_sliding_window": 128}, "'a' has sliding-window attention of 128 rows, which is not read"),
        (
            {"without": "blk.2.ffn_up.weight"},
            "'a' does not fit its config: 1 of its tensors are not in its files .model.layers.2.mlp.up_proj",
        ),
        ({"tensor": ("blk.3.attn_norm.weight", EIGHT)}, "holds 131016 weights, and .* takes 131008"),
        (
            {"tensor": ("rope_freqs.weight", EIGHT), "add_uint16": ("split.count", 1)},
            "'a' rescales its rotary positions in a way of its own, .* use the model as transformers saves it",
        ),
        (
            {"scaling": "longrope", "add_rope_scaling_factor": 4.0},
            "'a' rescales its rotary positions in a way",
        ),
        ({"tensor": ("rope_factors_long.weight", EIGHT)}, "'a' rescales its rotary positions by length"),
        (
            {"add_uint16": ("split.count", 3)},
            "a.gguf' is part 1 of 3 of a model, and not the whole; join them with .*gguf-split --merge",
        ),
    ],
)
def test_what_would_be_read_wrongly_is_refused(tmp_path, settings, words):
    path = write_gguf(tmp_path / "a.gguf", tiny_network("llama"), **settings)
    with pytest.raises(ValueError, match=words) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_no_gguf_inside(tmp_path):
    whole = write_gguf(tmp_path / "whole.gguf", tiny_network("llama")).read_bytes()
    for name, content in (
        ("empty", b""),
        ("text", b"hello, this is text" * 50),
        ("half", whole[: len(whole) // 3]),
    ):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is no readable GGUF file|cannot load model") as caught:
            load(path)
        assert "\n" not in str(caught.value)


class TestKept:
    """A file is unpacked once; what is loaded from the copy is what is read from the file itself."""

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_copy_and_file_are_the_same_model(self, tmp_path, monkeypatch, dtype):
        from routegraph.validate.models import gguf
        from routegraph.validate.models.load import quiet

        path = write_gguf(tmp_path / "tiny.gguf", shaken("qwen2"), add_chat_template="{{ messages }}")
        with quiet():
            network, tokenizer = gguf.read_gguf(path, dtype)
        told = []
        first = load(path, dtype=dtype, progress=lambda *told_: told.append(told_[2]))
        assert told == ["unpacking tiny.gguf to float32, once"]
        monkeypatch.setattr(convert, "read_gguf", None)
        copied = tmp_path / "elsewhere.gguf"
        copied.write_bytes(path.read_bytes())
        second = load(copied, dtype=dtype, progress=lambda *told_: told.append(told_[2]))
        assert len(told) == 1
        assert (first.name, second.name) == ("tiny", "elsewhere")
        for loaded in (first, second):
            assert loaded.model.dtype == network.dtype
            with torch.no_grad():
                expected, found = (one(random_ids()).logits for one in (network, loaded.model))
            assert torch.equal(found, expected)
            assert loaded.tokenizer("the <tool> 12").input_ids == tokenizer("the <tool> 12").input_ids
            assert loaded.tokenizer.get_vocab() == tokenizer.get_vocab()
            assert loaded.tokenizer.chat_template == "{{ messages }}"
            assert loaded.tokenizer.special_tokens_map == tokenizer.special_tokens_map

    def test_a_file_that_changed_in_place_is_unpacked_again(self, tmp_path):
        path = write_gguf(tmp_path / "tiny.gguf", shaken("qwen2"))
        before = load(path).model.model.layers[2].mlp.down_proj.weight
        content = bytearray(path.read_bytes())
        content[-400:] = content[-800:-400]  # the same size, other weights
        path.write_bytes(content)
        assert not torch.equal(load(path).model.model.layers[2].mlp.down_proj.weight, before)

    def test_template_is_in_the_configuration_of_the_tokenizer(self, tmp_path):
        path = write_gguf(tmp_path / "tiny.gguf", shaken("qwen2"), add_chat_template="{{ messages }}")
        folder, why = convert.converted(path, "float32", "cpu")
        assert why == ""
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        assert settings["chat_template"] == "{{ messages }}"
        assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"

    def test_without_room_it_is_read_as_it_is(self, tmp_path, monkeypatch, cache_folder):
        path = write_gguf(tmp_path / "tiny.gguf", shaken("llama"))
        monkeypatch.setattr(cache, "free_bytes", lambda: 1000)
        with pytest.warns(
            UserWarning, match=r"'tiny', unpacked, needs 0.00 GB .* ROUTEGRAPH_CACHE .*whenever"
        ):
            assert load(path).name == "tiny"
        assert list(cache_folder.glob("gguf/*")) == []
        monkeypatch.undo()
        blocked = tmp_path / "file"
        blocked.touch()
        monkeypatch.setenv("ROUTEGRAPH_CACHE", str(blocked))
        with pytest.warns(UserWarning, match="'tiny' is unpacked whenever it is loaded: .*Not a directory"):
            assert load(path).n_layers == 3

    def test_a_refused_file_leaves_nothing(self, tmp_path, cache_folder):
        path = write_gguf(tmp_path / "tiny.gguf", shaken("llama"), pre="tekken")
        with pytest.raises(ValueError, match="tekken"):
            load(path)
        assert [found for found in cache_folder.glob("gguf/*") if not found.name.endswith(".lock")] == []


class TestMemory:
    def test_said_before_it_is_loaded(self, tmp_path, monkeypatch):
        import transformers

        network = tiny_network("qwen2")
        network.save_pretrained(tmp_path / "m")
        path = write_gguf(tmp_path / "m.gguf", network)
        n = sum(parameter.numel() for parameter in network.parameters())
        assert size.folder_parameters(tmp_path / "m") == n
        monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)
        for model, need in ((tmp_path / "m", 4 * n), (path, 8 * n)):
            monkeypatch.setattr(size, "available", lambda need=need: need - 1)
            with pytest.raises(
                ValueError, match=r"'m' of 0.0 billion .* of memory in float32, .* or dtype bfloat16"
            ):
                load(model)
            monkeypatch.setattr(size, "available", lambda need=need: need)
            with pytest.raises(
                (TypeError, ValueError)
            ) as caught:  # it fits; now the loading itself is what fails
                load(model)
            assert "memory" not in str(caught.value)

    def test_dtype_and_unknown_sizes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(size, "available", lambda: 300)
        size.check_fits("m", 150, "bfloat16", "cpu")
        size.check_fits("m", None, "float32", "cpu")
        with pytest.raises(ValueError, match=r"in bfloat16, and 0.0 GB is free; choose a smaller model$"):
            size.check_fits("m", 151, "bfloat16", "cpu")
        monkeypatch.setattr(size, "available", lambda: None)
        size.check_fits("m", 10**12, "float32", "cpu")
        assert size.folder_parameters(tmp_path) is None
        for content in (b"", b"\xff" * 20, b"\x02" + b"\0" * 7 + b"{}"):
            (tmp_path / "x.safetensors").write_bytes(content)
            assert size.folder_parameters(tmp_path) is None
