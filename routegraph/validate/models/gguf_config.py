"""What a GGUF file says of its model and transformers passes over: positions, windows, caps and scales."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.models.families import known_family

#: Layers of the Gemma models whose logits are scaled by the width per head, not by the head's width, as llama.cpp
#: tells them.
_SCALED_BY_WIDTH = {"gemma2": 46, "gemma3": 62}

_ELSEWHERE = "which is not read from a GGUF file; use the model as transformers saves it"


def complete(config: Any, fields: Mapping[str, Any], tensors: Mapping[str, Any], path: Path) -> str:
    """Put into a configuration what transformers left out of it; return what cannot be put there, or nothing.

    Parameters
    ----------
    config : transformers configuration
        As read from the file; it is changed.
    fields : mapping of str to Any
        The metadata of the file, by key.
    tensors : mapping
        By the names of its tensors.
    path : Path
        The file.
    """
    kind = fields["general.architecture"]
    own = {
        name.removeprefix(f"{kind}."): value for name, value in fields.items() if name.startswith(f"{kind}.")
    }
    if width := own.get("attention.key_length"):
        config.head_dim = int(width)  # transformers reads none for Qwen3, and takes 128
    if kind in _SCALED_BY_WIDTH:
        by_width = config.num_hidden_layers == _SCALED_BY_WIDTH[kind]
        width = config.hidden_size // config.num_attention_heads if by_width else config.head_dim
        config.query_pre_attn_scalar = width
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if name in own:
            setattr(config, name, float(own[name]))
    window = own.get("attention.sliding_window")
    if window and max(known_family(config, kind).windows(config)) != int(window):
        return f"has sliding-window attention of {int(window)} rows, {_ELSEWHERE}"
    if any(name.startswith("rope_factors") for name in tensors):
        return f"rescales its rotary positions by length, {_ELSEWHERE}"
    scaling = own.get("rope.scaling.type", "none")
    if "rope_freqs.weight" in tensors:
        rope = _llama3(_tensor(path, "rope_freqs.weight"), config.rope_parameters["rope_theta"])
    elif scaling == "none":
        rope = {}
    else:
        rope = _scaled(scaling, own, config.max_position_embeddings)
    if rope is None:
        return f"rescales its rotary positions in a way of its own, {_ELSEWHERE}"
    parameters = config.rope_parameters
    parameters.get("full_attention", parameters).update(rope)  # a set for each kind of layer, or one for all
    return ""


def _scaled(kind: str, own: Mapping[str, Any], positions: int) -> dict[str, Any] | None:
    """Return linear or YaRN scaling as transformers names it; None for anything else."""
    factor = own.get("rope.scaling.factor")
    if not factor or kind not in ("linear", "yarn"):
        return None
    rope = {"rope_type": kind, "factor": float(factor)}
    if kind == "yarn":
        original = own.get("rope.scaling.original_context_length", positions / factor)
        rope["original_max_position_embeddings"] = int(original)
    return rope


def _llama3(factors: NDArray[np.float32], theta: float) -> dict[str, Any] | None:
    """Return the scaling of Llama 3.1 and later from the factor of each frequency; None if it is another.

    The file holds the factors only, computed from a base and four numbers of which three are the same in all these
    models; so they are computed again and compared.
    """
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {
        "rope_type": "llama3",
        "factor": float(factors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    width = 2 * len(factors)
    config = LlamaConfig(head_dim=width, hidden_size=width, num_attention_heads=1)
    config.rope_parameters = {**rope, "rope_theta": theta}
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    usual = theta ** (-np.arange(len(factors)) / len(factors))
    return rope if np.allclose(usual / scaled.numpy(), factors, rtol=1e-3) else None


def _tensor(path: Path, name: str) -> NDArray[np.float32]:
    """Return one unquantised tensor of a file."""
    from gguf import GGUFReader

    found = next(tensor for tensor in GGUFReader(str(path)).tensors if tensor.name == name)
    return np.array(found.data, dtype=np.float32)
