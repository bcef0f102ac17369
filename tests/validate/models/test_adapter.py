"""Adapters: what is added to the weights, and adapters that are refused."""

import json

import pytest

from routegraph.validate.models.adapter import CONFIG, WEIGHTS, apply_adapter, is_adapter, read_adapter
from routegraph.validate.models.load import load
from tests.helpers.models import tiny_network
from tests.helpers.reading import base_folder
from tests.helpers.tokenizer import VOCABULARY

PLACE = "model.layers.1.self_attn.q_proj"


def adapter_folder(folder, base="smollm2", place=PLACE, shapes=((4, 64), (64, 4)), **config):
    """Write an adapter of one matrix and return it with its factors."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    said = {"peft_type": "LORA", "r": 4, "lora_alpha": 12, "base_model_name_or_path": base, **config}
    (folder / CONFIG).write_text(json.dumps(said))
    torch.manual_seed(0)
    factors = {
        f"base_model.model.{place}.lora_{which}.weight": torch.randn(s)
        for which, s in zip("AB", shapes, strict=False)
    }
    save_file(factors, folder / WEIGHTS)
    return folder, list(factors.values())


def test_the_delta_is_scale_times_b_times_a(tmp_path):
    import torch

    folder, (down, up) = adapter_folder(tmp_path / "a")
    network = tiny_network("llama", VOCABULARY)
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    apply_adapter(network, read_adapter(folder))
    for name, weight in network.named_parameters():
        delta = 12 / 4 * up @ down if name == f"{PLACE}.weight" else torch.zeros_like(weight)
        torch.testing.assert_close(weight, before[name] + delta)


def test_a_folder_with_an_adapter_is_loaded_on_its_base(tmp_path):
    import torch

    base = base_folder(tmp_path / "base")
    folder, (down, up) = adapter_folder(tmp_path / "mine", base=str(base))
    assert is_adapter(folder)
    assert not is_adapter(base)
    plain, adapted = load(base), load(folder)
    assert adapted.name == "mine"
    assert plain.name == "base"
    weight = dict(plain.model.named_parameters())[f"{PLACE}.weight"]
    torch.testing.assert_close(
        dict(adapted.model.named_parameters())[f"{PLACE}.weight"], weight + 3 * up @ down
    )


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"use_dora": True}, "adapter 'a' is not plain LoRA .use_dora.; merge it with peft first"),
        ({"rank_pattern": {"q_proj": 2}}, "is not plain LoRA .rank_pattern."),
        ({"peft_type": "IA3"}, "is not plain LoRA .IA3."),
        ({"base_model_name_or_path": None}, "does not name the model that it adapts"),
        ({"r": 0}, "adapter 'a' cannot be read"),
    ],
)
def test_other_adapters_are_refused(config, says, tmp_path):
    folder, _ = adapter_folder(tmp_path / "a", **config)
    with pytest.raises(ValueError, match=says):
        read_adapter(folder)


@pytest.mark.parametrize(
    "odd",
    [
        {"place": "model.layers.9.self_attn.q_proj"},
        {"shapes": ((4, 64), (32, 4))},
        {"shapes": ((4, 64), (64, 2))},
        {"shapes": ((4, 64),)},
    ],
)
def test_an_adapter_of_another_model_is_refused(odd, tmp_path):
    base = base_folder(tmp_path / "base")
    folder, _ = adapter_folder(tmp_path / "a", base=str(base), **odd)
    with pytest.raises(ValueError, match="does not fit model .* at 'model.layers"):
        load(folder)


def test_weights_that_are_missing_are_told(tmp_path):
    folder, _ = adapter_folder(tmp_path / "a")
    (folder / WEIGHTS).unlink()
    with pytest.raises(ValueError, match="adapter 'a' has no adapter_model.safetensors"):
        load(folder)
    (folder / "adapter_model.bin").touch()
    with pytest.raises(ValueError, match="has its weights in 'adapter_model.bin', a pickle"):
        load(folder)
