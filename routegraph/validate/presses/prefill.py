"""Everything that touches kvpress: scores of every cache row, and what a press really keeps.

kvpress prunes in a forward hook after a layer's attention has run, so the scores of later layers do not
depend on the compression ratio: one prefill gives the scores behind every ratio.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.models.attention import check_attention
from routegraph.validate.models.blocks import in_blocks
from routegraph.validate.presses.kvpress_fixes import queries_once
from routegraph.validate.presses.scorers import check_press, check_table

Scores = NDArray[np.float32]


Name = TypeVar("Name", bound=Hashable)


def cached_layer(module: Any, kwargs: Mapping[str, Any]) -> Any:
    """Return the cache layer of an attention module in a forward call; ValueError where there is no cache."""
    cache = kwargs.get("past_key_values")
    if cache is None:
        raise ValueError("the model ran without a cache, whose rows are what is scored; set use_cache=True")
    return cache.layers[module.layer_idx]


def prefill_tables(
    model: Any,
    input_ids: Any,
    tables: Mapping[Name, tuple[Any, int | None]],
    also: Any = None,
    inside: AbstractContextManager[None] | None = None,
) -> dict[Name, Scores]:
    """Score every cache row by several presses in one prefill of a context; nothing is evicted.

    Parameters
    ----------
    model : transformers model
        With sdpa attention.
    input_ids : int[1, n] tensor
        One context; see `one_context`.
    tables : mapping of name to (kvpress press, int or None)
        Whose ``score`` is called, layer by layer, and the length of chunks that are scored by themselves (None:
        the whole context at once). Make presses for each prefill: one may keep what it worked out.
    also : forward hook, optional
        Called after each layer's attention in the same prefill.
    inside : context manager, optional
        The prefill runs inside it.

    Returns
    -------
    dict of name to float32[n_layers, n_kv_heads, n]

    Raises
    ------
    ValueError
        If the context or a chunk is too short, the attention is not sdpa, or a press does not score, refuses
        the context, or scores otherwise at another ratio.
    """
    check_attention(model)
    ids = one_context(input_ids)
    n = int(ids.shape[1])
    distinct = {id(press): press for press, _ in tables.values()}.values()
    for press in distinct:
        check_press(press)
    for press, length in tables.values():
        check_table(n, press, length, "the context", type(press).__name__)
    found: dict[Name, list[Scores]] = {name: [] for name in tables}

    def hook(module: Any, _args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        layer = cached_layer(module, kwargs)
        hidden = kwargs["hidden_states"]

        def score(press: Any, rows: slice) -> Any:
            keys, values = layer.keys[:, :, rows], layer.values[:, :, rows]
            with plain_errors(press, _unknown_to_kvpress(module)):
                return press.score(module, hidden[:, rows], keys, values, None, kwargs)

        if module.layer_idx == 0:
            for press in distinct:
                _check_fixed(press, lambda press=press: score(press, slice(0, n)))
        for name, (press, length) in tables.items():
            parts = [score(press, rows)[0].float().cpu().numpy() for rows in _chunks(n, length)]
            found[name].append(np.concatenate(parts, axis=-1))
        if also is not None:
            also(module, _args, kwargs, output)

    with _hooked(model, hook), queries_once(attention_modules(model)), inside or nullcontext():
        for press in distinct:
            press.post_init_from_model(model)
        prefill(model, ids)
    scores = {name: np.stack(table) for name, table in found.items()}
    if not all(np.isfinite(table).all() for table in scores.values()):
        raise ValueError(f"the scores are not finite in {model.dtype}; use float32")
    return scores


def prefill_scores(
    model: Any, input_ids: Any, press: Any, chunk_lengths: Sequence[int] = (), also: Any = None
) -> dict[int | None, Scores]:
    """Score every cache row by one press; the tables are named by chunk length, None: the whole context.

    See `prefill_tables`.
    """
    tables = {length: (press, length) for length in (None, *chunk_lengths)}
    return prefill_tables(model, input_ids, tables, also)


def prefill(model: Any, input_ids: Any) -> Any:
    """Run a context of shape [1, n] through a model from an empty cache, and return the cache.

    The cache is a plain one that keeps every row; the logits, which nobody asked for, are not computed. A long context
    takes no more memory than it must: see `routegraph.validate.models.blocks`.
    """
    import torch
    from transformers import DynamicCache

    cache, ids = DynamicCache(), one_context(input_ids)
    with torch.no_grad(), in_blocks(model, int(ids.shape[1])):
        model.base_model(ids.to(model.device), past_key_values=cache, use_cache=True)
    return cache


def attention_modules(model: Any) -> list[Any]:
    """Return the attention module of each layer."""
    return [layer.self_attn for layer in model.base_model.layers]


def _check_fixed(press: Any, score: Any) -> None:
    """Raise ValueError unless a press scores the same at another ratio, and when asked again."""
    import torch

    ratio, first = press.compression_ratio, score()
    try:
        press.compression_ratio = 0.0 if ratio else 0.5
        again = score()
    finally:
        press.compression_ratio = ratio
    if not torch.allclose(first, again, equal_nan=True):
        raise ValueError(
            f"the scores of {type(press).__name__} change with the ratio or from call to call, so one prefill does "
            "not tell them; choose a registered scorer, or ask routegraph.validate.presses.survivors ratio by ratio"
        )


@contextmanager
def plain_errors(press: Any, why: str = "") -> Iterator[None]:
    """Turn what a press asserts or raises into one sentence that names it, and says `why` where that is known."""
    try:
        yield
    except (AssertionError, NotImplementedError, RuntimeError, OSError) as error:
        why = why or " ".join(str(error).split()) or type(error).__name__
        name = getattr(press, "__name__", type(press).__name__)
        raise ValueError(f"{name} cannot run here: {why}") from error
    except ValueError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _unknown_to_kvpress(module: Any) -> str:
    """Return what kvpress fails on in an attention module, if there is such a thing."""
    rope = getattr(module.config, "rope_parameters", None) or {}
    part = rope.get("partial_rotary_factor", 1.0)
    if part == 1:
        return ""
    return (
        f"kvpress rotates whole heads, and this model rotates {part:g} of each; choose a scorer that reads no rotated "
        "queries, such as knorm, keydiff, lagkv, cur or observed_attention"
    )


def _chunks(n: int, length: int | None) -> list[slice]:
    step = length or n
    return [slice(start, start + step) for start in range(0, n, step)]


@contextmanager
def _hooked(model: Any, hook: Any) -> Iterator[None]:
    """Call `hook` after the attention of each layer."""
    with rotary(model), ExitStack() as stack:
        for module in attention_modules(model):
            stack.enter_context(module.register_forward_hook(hook, with_kwargs=True))
        yield


@contextmanager
def rotary(model: Any) -> Iterator[None]:
    """Let each attention module see the model's rotary embedding, as scorers expect, and put back what it had.

    Where layers of each kind have one of their own (Gemma-3), that is it; kvpress gives them all the same, and fails.
    """
    modules = attention_modules(model)
    before = [getattr(module, "rotary_emb", None) for module in modules]
    shared = model.base_model.rotary_emb
    by_kind = "layer_type" in inspect.signature(shared.forward).parameters
    for module in modules:
        _set_rotary(module, _RotaryOfKind(shared, module.layer_type) if by_kind else shared)
    try:
        yield
    finally:
        for module, rotary in zip(modules, before, strict=True):
            _set_rotary(module, rotary)


@dataclass(frozen=True)
class _RotaryOfKind:
    """A rotary embedding with several kinds of layers, as those of one kind use it."""

    shared: Any
    kind: str

    def __call__(self, x: Any, position_ids: Any) -> Any:
        return self.shared(x, position_ids, layer_type=self.kind)

    @property
    def inv_freq(self) -> Any:
        return getattr(self.shared, f"{self.kind}_inv_freq")


def _set_rotary(module: Any, rotary: Any) -> None:
    if hasattr(module, "rotary_emb"):
        del module.rotary_emb  # torch takes no plain callable in the place of a module
    if rotary is not None:
        module.rotary_emb = rotary


def one_context(encoded: Any) -> Any:
    """Return the token ids int[1, n] of one context without padding.

    Parameters
    ----------
    encoded : int[1, n] tensor, or mapping
        Token ids, or what a tokenizer returned with ``return_tensors="pt"``.

    Raises
    ------
    ValueError
        If it is more than one context, empty or padded: presses ignore the attention mask.
    """
    mask = None
    if isinstance(encoded, Mapping):
        encoded, mask = encoded["input_ids"], encoded.get("attention_mask")
    shape = list(getattr(encoded, "shape", ()))
    if len(shape) != 2 or shape[0] != 1 or not shape[1]:
        raise ValueError(f"one context at a time is prefilled, as token ids [1, n], got shape {shape}")
    if mask is not None and not bool(mask.bool().all()):
        raise ValueError(
            "the attention mask has zeros; presses ignore it, so pass each context without padding"
        )
    return encoded
