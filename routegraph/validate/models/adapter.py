"""LoRA adapters as peft writes them, added to the weights of a model at loading: W becomes W + s B A.

A folder with `adapter_config.json` and `adapter_model.safetensors` but no `config.json` is an adapter; its
`base_model_name_or_path` names a known model or a folder. peft itself is not needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routegraph.validate.models.whole import check_not_pickled

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
#: What else peft can do, which changes what a delta is.
_SPECIAL = (
    "use_dora",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "fan_in_fan_out",
)


@dataclass(frozen=True)
class Adapter:
    """A folder with an adapter.

    Attributes
    ----------
    folder : Path
    base : str
        The model that it adapts: a known name, or a folder.
    scale : float
        What B A is multiplied by.
    """

    folder: Path
    base: str
    scale: float


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter and no model of its own."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def read_adapter(folder: Path) -> Adapter:
    """Return the adapter of a folder, its weights not read yet.

    Raises
    ------
    ValueError
        If it is damaged, names no base, or is not plain LoRA, whose deltas are s B A of every matrix alike.
    """
    label = f"adapter {folder.name!r}"
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind, base = config["peft_type"], config["base_model_name_or_path"]
        scale = config["lora_alpha"] / config["r"] if kind == "LORA" else 0.0
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{label} cannot be read ({type(error).__name__}: {error})") from None
    if not (folder / WEIGHTS).is_file():
        check_not_pickled(folder, folder.name)
        raise ValueError(f"{label} has no {WEIGHTS}")
    special = [name for name in _SPECIAL if config.get(name)]
    if kind != "LORA" or special or config.get("bias", "none") != "none":
        raise ValueError(
            f"{label} is not plain LoRA ({', '.join(special) or kind}); merge it with peft first"
        )
    if not base:
        raise ValueError(f"{label} does not name the model that it adapts (base_model_name_or_path)")
    return Adapter(folder, str(base), scale)


def apply_adapter(network: Any, adapter: Adapter) -> None:
    """Add an adapter to the weights of a transformers model, worked out in float32.

    Raises
    ------
    ValueError
        If a matrix of it has no counterpart of its shape in the model, or only one of the two factors is there.
    """
    import torch
    from safetensors.torch import load_file

    factors = load_file(adapter.folder / WEIGHTS)
    weights = dict(network.named_parameters())
    places = {name.removeprefix(_PREFIX).rpartition(".lora_")[0] for name in factors}
    with torch.no_grad():
        for place in sorted(places):
            down, up = (factors.get(f"{_PREFIX}{place}.lora_{which}.weight") for which in "AB")
            weight = weights.get(f"{place}.weight")
            if (
                down is None
                or up is None
                or weight is None
                or weight.shape != (up.shape[0], down.shape[1])
                or up.shape[1] != down.shape[0]
            ):
                raise ValueError(
                    f"adapter {adapter.folder.name!r} does not fit model {adapter.base!r} at {place or 'its names'!r}"
                )
            delta = adapter.scale * (up.float() @ down.float())
            weight.copy_(weight.float() + delta.to(weight.device))
