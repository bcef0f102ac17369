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

SLIDING = (
    "has sliding-window attention, whose cache rows are not the tokens of the context; choose a model with full "
    "attention in every layer"
)


class UnsupportedModelError(ValueError):
    """The model can be read, but routegraph has no use for its architecture."""


def sliding_window(config: Any) -> str:
    """Return why a configuration with sliding-window attention is refused; nothing without one."""
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if not kinds and not getattr(config, "sliding_window", None):
        return ""
    return SLIDING


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
        ``refused(config)`` says why a configuration cannot be read, or nothing; sliding windows by default.
    readable : bool
        False for a family that is known and refused whatever its configuration.
    """

    model_types: tuple[str, ...]
    queries: Callable[[Any, Mapping[str, Any]], Any]
    refused: Callable[[Any], str] = sliding_window
    readable: bool = True


def project(module: Any, kwargs: Mapping[str, Any]) -> Any:
    """Return the queries of LLaMA-like attention before norm and rotation, [n, n_query_heads, head_dim]."""
    return module.q_proj(kwargs["hidden_states"])[0].unflatten(-1, (-1, module.head_dim))


def rotate(queries: Any, kwargs: Mapping[str, Any]) -> Any:
    """Rotate queries [n, n_query_heads, head_dim] to their positions; returns [n_query_heads, n, head_dim]."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    queries = queries.transpose(0, 1)[None]
    rotated, _ = apply_rotary_pos_emb(queries, queries, *kwargs["position_embeddings"])
    return rotated[0]


def _plain(module: Any, kwargs: Mapping[str, Any]) -> Any:
    return rotate(project(module, kwargs), kwargs)


def _normed(module: Any, kwargs: Mapping[str, Any]) -> Any:
    return rotate(module.q_norm(project(module, kwargs)), kwargs)


@family("llama")
def llama() -> Family:
    """LLaMA, and Mistral without its sliding window: rotary positions, grouped KV heads."""
    return Family(("llama", "mistral"), _plain)


@family("qwen2")
def qwen2() -> Family:
    """Qwen2 and Qwen2.5: LLaMA's attention with biases."""
    return Family(("qwen2",), _plain)


@family("qwen3")
def qwen3() -> Family:
    """Qwen3: queries and keys are normed before they are rotated."""
    return Family(("qwen3",), _normed)


@family("gemma3")
def gemma3() -> Family:
    """Gemma3 (refused): most layers see a sliding window only."""
    why = (
        "mixes sliding-window layers with full ones, and what is missing is a cache whose rows keep their "
        "positions in the windows; choose a model with full attention in every layer"
    )
    return Family(("gemma3_text", "gemma3"), _normed, lambda config: why, readable=False)


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
    found = family_of(config)
    if found is None:
        raise _unknown(config, name)
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
    found = family_of(module.config)
    if found is None:
        raise _unknown(module.config, type(module).__name__)
    return found.queries(module, kwargs)


def _unknown(config: Any, name: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"model {name!r} is of family {config.model_type!r}; choose one of: {', '.join(readable_types())}, "
        "or register it with @family of routegraph.validate.models.families"
    )
