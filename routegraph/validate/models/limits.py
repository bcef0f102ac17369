"""How many positions a model was made for."""

from __future__ import annotations

from typing import Any

#: Ways of stretching rotary positions whose ``max_position_embeddings`` is the length before they are stretched;
#: llama3's and longrope's is the length after.
_STRETCHED = ("linear", "dynamic", "yarn")


def max_context(config: Any) -> int:
    """Return the positions that a transformers configuration stands for, rescaled rotary positions included.

    YaRN, dynamic and linear scaling stretch the original positions by their factor, whether or not
    ``max_position_embeddings`` says so: Qwen2.5's cards add YaRN and leave it at 32,768. Gemma3's has its linear
    factor in it already. vLLM reads configurations by the same rule.
    """
    positions = int(config.max_position_embeddings)
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    rope = rope.get("full_attention") or rope  # a set for each type of layer
    kind = rope.get("rope_type", rope.get("type"))
    if kind not in _STRETCHED or config.model_type.startswith("gemma3"):
        return positions
    original = rope.get("original_max_position_embeddings") or positions
    return max(positions, int(original * (rope.get("factor") or 1)))
