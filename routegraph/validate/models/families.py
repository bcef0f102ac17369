"""Model families: which architectures can be read, and what is particular to each.

To read another one, write an adapter in a file of your own; ``--load FILE.py`` tells a command of it, an import tells a
notebook::

    from routegraph.validate.models.families import Family, family, project, rotate

    @family("granite")
    def granite() -> Family:
        "Granite: LLaMA's attention, other scales."
        return Family(("granite",), queries=lambda module, kwargs: rotate(project(module, kwargs), kwargs))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from routegraph.registry import Registry

#: Registry of model families: functions without parameters that return a `Family`; `family` is its decorator.
families = family = Registry("family")


class UnsupportedModelError(ValueError):
    """The model can be read, but routegraph has no use for its architecture."""


def other_layers(config: Any) -> str:
    """Return why a configuration is refused whose layers are neither full nor sliding-window attention."""
    kinds = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"})
    if kinds:
        return (
            f"has layers of kind {kinds[0]!r}, whose cache rows are not the tokens of the context; choose a model with "
            "full or sliding-window attention in every layer"
        )
    if getattr(config, "use_bidirectional_attention", False):
        return "lets tokens see later ones, so that nothing can be prefilled; choose a causal model"
    return ""


def layer_windows(config: Any) -> tuple[int, ...]:
    """Return how many rows each layer's queries see, their own among them; 0: all that came before.

    As ``layer_types`` say, or every layer where they are missing (Mistral, Phi-3).
    """
    window = getattr(config, "sliding_window", None) or 0
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * config.num_hidden_layers
    return tuple(int(window) if kind == "sliding_attention" else 0 for kind in kinds)


def no_windows(config: Any) -> tuple[int, ...]:
    """Return that every layer sees all rows, whatever window a configuration names that the model has no use for."""
    return (0,) * int(config.num_hidden_layers)


@dataclass(frozen=True)
class Family:
    """What is particular to the models of one family.

    Attributes
    ----------
    model_types : tuple of str
        The ``model_type`` of the transformers configurations that belong to it.
    queries : callable
        ``queries(module, kwargs)`` returns the rotated queries [n_query_heads, n, head_dim] of an attention
        module from the keyword arguments of its forward call (hidden_states, position_embeddings).
    refused : callable
        ``refused(config)`` says why a configuration cannot be read, or nothing.
    readable : bool
        False for a family that is known and refused whatever its configuration.
    windows : callable
        ``windows(config)`` returns the sliding window of each layer; 0: none.
    softcap : callable
        ``softcap(config)`` returns the c of attention logits that are c * tanh(logit / c); None: they are not.
    spares_local : bool
        Whether presses leave layers with a sliding window alone, as kvpress does in Gemma-3.
    """

    model_types: tuple[str, ...]
    queries: Callable[[Any, Mapping[str, Any]], Any]
    refused: Callable[[Any], str] = other_layers
    readable: bool = True
    windows: Callable[[Any], tuple[int, ...]] = layer_windows
    softcap: Callable[[Any], float | None] = lambda config: None
    spares_local: bool = False


def project(module: Any, kwargs: Mapping[str, Any]) -> Any:
    """Return the queries of LLaMA-like attention before norm and rotation, [n, n_query_heads, head_dim]."""
    return module.q_proj(kwargs["hidden_states"])[0].unflatten(-1, (-1, module.head_dim))


def rotate(queries: Any, kwargs: Mapping[str, Any]) -> Any:
    """Rotate queries [n, n_query_heads, head_dim] to their positions; returns [n_query_heads, n, head_dim].

    Where the rotation is narrower than a head (partial rotary positions), the rest stays as it is.
    """
    import torch
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    queries = queries.transpose(0, 1)[None]
    cos, sin = kwargs["position_embeddings"]
    turning, still = queries[..., : cos.shape[-1]], queries[..., cos.shape[-1] :]
    rotated, _ = apply_rotary_pos_emb(turning, turning, cos, sin)
    return torch.cat([rotated, still], dim=-1)[0]


def _plain(module: Any, kwargs: Mapping[str, Any]) -> Any:
    return rotate(project(module, kwargs), kwargs)


def _normed(module: Any, kwargs: Mapping[str, Any]) -> Any:
    return rotate(module.q_norm(project(module, kwargs)), kwargs)


def _normed_whole(module: Any, kwargs: Mapping[str, Any]) -> Any:
    queries = module.q_norm(module.q_proj(kwargs["hidden_states"]))[0]
    return rotate(queries.unflatten(-1, (-1, module.head_dim)), kwargs)


def _fused(module: Any, kwargs: Mapping[str, Any]) -> Any:
    width = module.config.num_attention_heads * module.head_dim
    queries = module.qkv_proj(kwargs["hidden_states"])[0, :, :width]
    return rotate(queries.unflatten(-1, (-1, module.head_dim)), kwargs)


def _rotated_or_not(module: Any, kwargs: Mapping[str, Any]) -> Any:
    queries = project(module, kwargs)
    return rotate(queries, kwargs) if module.use_rope else queries.transpose(0, 1)


@family("llama")
def llama() -> Family:
    """LLaMA: rotary positions, grouped KV heads."""
    return Family(("llama",), _plain, windows=no_windows)


@family("mistral")
def mistral() -> Family:
    """Mistral: LLaMA's attention, in older models with a sliding window in every layer."""
    return Family(("mistral",), _plain)


@family("qwen2")
def qwen2() -> Family:
    """Qwen2 and Qwen2.5: LLaMA's attention with biases, in some models with sliding windows in upper layers."""
    return Family(("qwen2",), _plain)


@family("qwen3")
def qwen3() -> Family:
    """Qwen3: queries and keys are normed before they are rotated."""
    return Family(("qwen3",), _normed)


@family("phi3")
def phi3() -> Family:
    """Phi-3 and Phi-4-mini: one projection for queries, keys and values; part of a head may stay unrotated."""
    return Family(("phi3",), _fused)


@family("olmo2")
def olmo2() -> Family:
    """OLMo-2: queries and keys are normed over all heads (kvpress's scores leave that norm out)."""
    return Family(("olmo2",), _normed_whole, windows=no_windows)


@family("granite")
def granite() -> Family:
    """Granite: LLaMA's attention, logits scaled by a multiplier (kvpress's scores: by the head's width)."""
    return Family(("granite",), _plain, windows=no_windows)


@family("smollm3")
def smollm3() -> Family:
    """SmolLM3: LLaMA's attention, every fourth layer without positions (kvpress's scores rotate there, too)."""
    return Family(("smollm3",), _rotated_or_not)


@family("gemma2")
def gemma2() -> Family:
    """Gemma-2: capped attention logits (kvpress's scores: uncapped), a sliding window in every other layer."""
    return Family(("gemma2",), _plain, softcap=lambda config: config.attn_logit_softcapping)


@family("gemma3")
def gemma3() -> Family:
    """Gemma-3, text models: normed queries, sliding windows in most layers, which presses leave alone."""
    return Family(("gemma3_text",), _normed, spares_local=True)


@family("gemma3_vision")
def gemma3_vision() -> Family:
    """Gemma-3 with images (refused): its text model is read, alone."""
    why = "reads images, too; choose a text model of the family, such as google/gemma-3-1b-it"
    return Family(("gemma3",), _normed, lambda config: why, readable=False)


def check_family(config: Any, name: str) -> Family:
    """Return the family that reads models of a transformers configuration.

    Parameters
    ----------
    config : transformers configuration
    name : str
        What the model is called in the error.

    Raises
    ------
    UnsupportedModelError
        If no family is registered for it, or its family refuses it.
    """
    found = known_family(config, name)
    if why := found.refused(config):
        raise UnsupportedModelError(f"model {name!r} {why}")
    return found


def family_of(config: Any) -> Family | None:
    """Return the registered family of a configuration's ``model_type``, if there is one."""
    for name in families:
        found: Family = families[name]()
        if config.model_type in found.model_types:
            return found
    return None


def readable_types() -> list[str]:
    """Return the ``model_type`` of every architecture that can be read, sorted."""
    known: list[Family] = [families[name]() for name in families]
    return sorted(kind for one in known if one.readable for kind in one.model_types)


def known_family(config: Any, name: str) -> Family:
    """Return the registered family of a configuration; UnsupportedModelError if there is none."""
    found = family_of(config)
    if found is None:
        raise _unknown(config, name)
    return found


def rotated_queries(module: Any, kwargs: Mapping[str, Any]) -> Any:
    """Return the queries of an attention module after rotation, [n_query_heads, n, head_dim].

    Parameters
    ----------
    module : attention module
        Of a model of a registered family.
    kwargs : mapping
        The keyword arguments of its forward call.

    Raises
    ------
    UnsupportedModelError
        If no family is registered for the module's configuration.
    """
    return known_family(module.config, type(module).__name__).queries(module, kwargs)


def _unknown(config: Any, name: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"model {name!r} is of family {config.model_type!r}; choose one of: {', '.join(readable_types())}, "
        "or register it with @family of routegraph.validate.models.families"
    )
