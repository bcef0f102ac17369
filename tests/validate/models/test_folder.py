"""A model's folder is checked before transformers reads it: hostile files end in one sentence, at once."""

import json
import time

import pytest

torch = pytest.importorskip("torch")

from routegraph.validate.models.load import cache_row, load, load_tokenizer, quiet  # noqa: E402
from tests.helpers.models import tiny_network  # noqa: E402
from tests.helpers.tokenizer import VOCABULARY, byte_level_tokenizer  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "m"
    with quiet():
        tiny_network("llama", VOCABULARY).save_pretrained(path)
        byte_level_tokenizer().save_pretrained(path)
    return path


def configure(folder, **settings):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def refused(folder, words, capfd):
    began = time.monotonic()
    with pytest.raises(ValueError, match=words) as caught:
        load(folder)
    assert time.monotonic() - began < 5
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("text", ["null", "[]", "3", '"x"', "", "{", "[" * 100_000])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_is_no_object(folder, file, text, capfd):
    (folder / file).write_text(text)
    words = r"cannot load model 'm'" if (file, text) == ("tokenizer.json", "{") else f"{file}' is no "
    refused(folder, words, capfd)


@pytest.mark.parametrize("file", ["generation_config.json", "special_tokens_map.json", "added_tokens.json"])
def test_other_files_that_are_no_objects(folder, file, capfd):
    (folder / file).write_text("[1]")
    refused(folder, f"{file}' is no file of a model: the document must be an object", capfd)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in ("vocab_size", "num_hidden_layers")
        for value in (None, -1, 0, 10**18, "4", True)
    ]
    + [
        ("rope_parameters", 3),
        ("rope_scaling", []),
        ("hidden_size", 0.5),
        ("layer_types", 3),
        ("hidden_act", None),
    ],
)
def test_a_number_of_the_config(folder, name, value, capfd):
    configure(folder, **{name: value})
    refused(folder, f"config.json' is no config of a model: {name} must be ", capfd)
    with pytest.raises(ValueError, match=name):
        cache_row(folder)


def test_far_larger_than_its_files(folder, capfd):
    for settings in ({"num_hidden_layers": 9_999}, {"vocab_size": 10**8}, {"intermediate_size": 10**7}):
        configure(folder, **settings)
        refused(folder, "does not fit its config: .* parameters at least, and its files hold", capfd)


@pytest.mark.parametrize("value", ["x", 0, -1, []])
def test_length_of_the_tokenizer(folder, value, capfd):
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": value}))
    refused(folder, "model_max_length must be a finite number of at least 1", capfd)


def test_what_trips_transformers(folder, capfd):
    configure(folder, eos_token_id={}, id2label=[[3]])
    refused(folder, "cannot load model 'm'", capfd)


def test_an_index_names_safetensors_of_the_folder_only(folder, tmp_path, capfd):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    names = [name for name, _ in tiny_network("llama", VOCABULARY).named_parameters()]

    def index_of(part):
        index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, part)}))

    index_of("model-00001-of-00001.safetensors")
    load(folder)
    torch.save({}, folder / "x.bin")
    for part in ("x.bin", "../m/model-00001-of-00001.safetensors"):
        index_of(part)
        refused(folder, f"names {part!r} for weights, which is no safetensors file of its folder", capfd)
    index.write_text("null")
    refused(folder, "is no index of weights", capfd)


def test_a_folder_does_not_lead_to_another_model(folder, capfd):
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {"peft_type": "LORA", "base_model_name_or_path": "elsewhere/model", "r": 1, "lora_alpha": 1}
        )
    )
    refused(folder, "an adapter_config.json beside its config.json", capfd)


def test_the_tokenizer_alone(folder):
    (folder / "tokenizer_config.json").write_text("null")
    with pytest.raises(ValueError, match="must be an object"):
        load_tokenizer(folder)


def test_the_terminal_is_not_asked(folder, monkeypatch, capfd):
    """Neither the code of a model nor that of its tokenizer is run, and nobody is asked whether it may be."""

    class Closed:
        def readline(self, *_):
            pytest.fail("standard input is read")

        read = fileno = isatty = readline

    (folder / "mine.py").write_text(f"open({str(folder / 'sprung')!r}, 'w')\n")
    for file in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / file).read_text())
        content["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM"), "mine.X")
        content["auto_map"]["AutoTokenizer"] = ["mine.X", "mine.X"]
        (folder / file).write_text(json.dumps(content))
    monkeypatch.setattr("sys.stdin", Closed())
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody is asked"))
    load(folder)
    assert not (folder / "sprung").exists()
    assert capfd.readouterr().out == ""
