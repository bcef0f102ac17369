"""A checkpoint is loaded whole, or refused with what is missing."""

import copy
import json
import warnings
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from routegraph.validate.models.load import load, quiet  # noqa: E402
from tests.helpers.models import random_ids, tiny_network  # noqa: E402
from tests.helpers.tokenizer import VOCABULARY, byte_level_tokenizer  # noqa: E402


@pytest.fixture
def folder(tmp_path):
    """A tiny LLaMA as transformers saves it."""
    path = tmp_path / "m"
    with quiet():
        tiny_network("llama", VOCABULARY).save_pretrained(path)
        byte_level_tokenizer().save_pretrained(path)
    return path


def rename(folder: Path, change) -> None:
    """Write the weights of a folder anew: `change` takes and returns them by name."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def configure(folder: Path, **settings) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def refused(folder: Path, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert "model 'm'" in str(caught.value)


def test_whole(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(folder)
        load(folder, dtype="bfloat16")


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model-00001-of-00002.bin", "consolidated.pth", "m.pt"]
)
def test_pickles_are_refused_before_they_are_opened(folder, name):
    class Trap:
        def __reduce__(self):
            return open, (str(folder / "sprung"), "w")

    torch.save({"model.embed_tokens.weight": Trap()}, folder / name)
    load(folder)  # the weights are there as safetensors, too, and those are read
    (folder / "model.safetensors").unlink()
    refused(folder, rf"has its weights in '{name}', a pickle, which could run any code: it is not opened")
    assert not (folder / "sprung").exists()


def test_code_that_comes_with_a_model_is_not_run(folder):
    (folder / "mine.py").write_text(f"open({str(folder / 'sprung')!r}, 'w')\n")
    mapped = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    configure(folder, auto_map=mapped)
    load(folder)
    configure(folder, model_type="mine", architectures=["Mine"])
    refused(folder, "cannot load model")
    assert not (folder / "sprung").exists()


def test_missing_tensors(folder):
    rename(
        folder, lambda tensors: {k: v for k, v in tensors.items() if k != "model.layers.1.mlp.up_proj.weight"}
    )
    refused(folder, r"1 of its tensors are not in its files \(model.layers.1.mlp.up_proj.weight\)$")


def test_unexpected_tensors(folder):
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    rename(folder, lambda tensors: tensors | extra)
    load(folder)  # old checkpoints have it, and it is worked out anew
    rename(folder, lambda tensors: tensors | {"model.more.weight": torch.ones(3)})
    refused(folder, r"its files hold 1 that it has no place for \(model.more.weight\)$")


def test_more_and_fewer_layers(folder):
    configure(folder, num_hidden_layers=5)
    refused(
        folder, r"18 of its tensors are not in its files \(model.layers.3.input_.*, ...; layers 3 to 4\)$"
    )
    configure(folder, num_hidden_layers=2)
    refused(folder, r"hold 9 that it has no place for \(model.layers.2.*; layer 2\)$")


def test_other_shapes(folder):
    configure(folder, intermediate_size=80)
    refused(
        folder, r"9 have another shape \(model.layers.0.mlp.down_proj.weight \(64, 96\) for \(64, 80\)\)$"
    )


def test_tied_embeddings(folder):
    configure(folder, tie_word_embeddings=True)
    rename(folder, lambda tensors: {k: v for k, v in tensors.items() if k != "lm_head.weight"})
    network = load(folder).model
    assert network.lm_head.weight is network.model.embed_tokens.weight
    configure(folder, tie_word_embeddings=False)
    refused(folder, r"1 of its tensors are not in its files \(lm_head.weight\)$")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model.", "module._orig_mod."])
def test_wrapped_names(folder, prefix):
    rename(folder, lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    with pytest.warns(UserWarning, match=f"'m': a wrapper's '{prefix}' was taken off") as told:
        loaded = load(folder)
    assert len(told) == 1
    with torch.no_grad():
        ids = random_ids(vocabulary=VOCABULARY)
        expected, found = (one(ids).logits for one in (tiny_network("llama", VOCABULARY), loaded.model))
    assert torch.equal(found, expected)


def test_an_adapter_is_no_wrapper(folder):
    prefix = "base_model.model."
    adapter = {f"{prefix}model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 64)}
    rename(folder, lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()} | adapter)
    refused(folder, r"hold 1 that it has no place for \(.*lora_A.weight\)$")


def test_no_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    refused(folder, "has no tokenizer files: none of tokenizer.json")


def test_a_tokenizer_without_words(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    added = {token["content"]: token["id"] for token in content["added_tokens"]} or {"a": 0}
    content["model"]["vocab"], content["model"]["merges"] = added, []
    content["added_tokens"] = [
        {
            "id": number,
            "content": token,
            "special": True,
            "lstrip": False,
            "rstrip": False,
            "single_word": False,
            "normalized": False,
        }
        for token, number in added.items()
    ]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    refused(folder, "has a tokenizer without words")


def test_tokens_beyond_the_embedding(folder):
    with quiet():
        tiny_network("llama", VOCABULARY - 3).save_pretrained(folder)
    refused(
        folder, f"an embedding of {VOCABULARY - 3} rows, and 3 tokens .* beyond it .* is {VOCABULARY - 3}\\)"
    )


def test_an_added_token_beyond_the_embedding_is_refused_where_it_is_read(folder):
    tokenizer = copy.deepcopy(byte_level_tokenizer())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    with quiet():
        tokenizer.save_pretrained(folder)
    loaded = load(folder)
    with torch.no_grad():
        loaded.model(**loaded.tokenizer("plain text", return_tensors="pt"))
        with pytest.raises(
            ValueError, match=f"token id {VOCABULARY} lies beyond the embedding of model 'm', "
        ):
            loaded.model(**loaded.tokenizer("an <image>", return_tensors="pt"))


def test_no_code_of_a_folder_is_run(folder, monkeypatch):
    (folder / "mine.py").write_text("raise SystemExit('ran')")
    configure(folder, auto_map={"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"})
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked whether to run it"))
    load(folder)  # the architecture is transformers' own
    configure(folder, model_type="mine")
    refused(folder, "cannot load model 'm': .*code")


def test_in_memory():
    with pytest.raises(ValueError, match="tokens of its tokenizer lie beyond"):
        load(tiny_network("llama", VOCABULARY - 3), tokenizer=byte_level_tokenizer())
