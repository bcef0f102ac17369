"""Everything that touches kvpress: scores of every cache row, and what a press really keeps.

kvpress prunes in a forward hook after a layer's attention has run, so the scores of later layers do not
depend on the compression ratio: one prefill gives the scores behind every ratio.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from routegraph.survival import check_ratio
from routegraph.validate.adapted import kvpress as kvpress
from routegraph.validate.adapted import queries_once
from routegraph.validate.checks import check_attention, check_table, one_context
from routegraph.validate.scorers import SCORERS as SCORERS
from routegraph.validate.scorers import check_press

Scores = NDArray[np.float32]
Kept = NDArray[np.bool_]
Name = TypeVar("Name", bound=Hashable)


@contextmanager
def patched_attention() -> Iterator[None]:
    """Run with kvpress's attention functions, which honour the masks of AdaKV, and put the old ones back."""
    kvpress()
    from kvpress.attention_patch import attention_patch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = dict(ALL_ATTENTION_FUNCTIONS.items())
    try:
        for name, function in before.items():
            # Already wrapped where the caller imported kvpress before routegraph did.
            if not function.__qualname__.startswith(attention_patch.__name__):
                ALL_ATTENTION_FUNCTIONS[name] = attention_patch(function)
        yield
    finally:
        for name, function in before.items():
            ALL_ATTENTION_FUNCTIONS[name] = function


def cached_layer(module: Any, kwargs: Mapping[str, Any]) -> Any:
    """Return the cache layer of an attention module in a forward call; ValueError where there is no cache."""
    cache = kwargs.get("past_key_values")
    if cache is None:
        raise ValueError("the model ran without a cache, whose rows are what is scored; set use_cache=True")
    return cache.layers[module.layer_idx]


def prefill_tables(
    model: Any, input_ids: Any, tables: Mapping[Name, tuple[Any, int | None]], also: Any = None
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
            with plain_errors(press):
                return press.score(module, hidden[:, rows], keys, values, None, kwargs)

        if module.layer_idx == 0:
            for press in distinct:
                _check_fixed(press, lambda press=press: score(press, slice(0, n)))
        for name, (press, length) in tables.items():
            parts = [score(press, rows)[0].float().cpu().numpy() for rows in _chunks(n, length)]
            found[name].append(np.concatenate(parts, axis=-1))
        if also is not None:
            also(module, _args, kwargs, output)

    with _hooked(model, hook), queries_once(attention_modules(model)):
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

    The cache is a plain one that keeps every row; the logits, which nobody asked for, are not computed.
    """
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    with torch.no_grad():
        model.base_model(one_context(input_ids).to(model.device), past_key_values=cache, use_cache=True)
    return cache


def reference_press(policy: str, ratio: float, chunk_length: int = 64, scores: Any = None) -> Any:
    """Return the kvpress press that does what a policy of ours does.

    Parameters
    ----------
    policy : {"topk", "adakv", "chunk"}
        Name of our policy.
    ratio : float
        Compression ratio.
    chunk_length : int
        For "chunk".
    scores : kvpress ScorerPress, optional
        What it scores by; kvpress's own ExpectedAttentionPress by default.

    Raises
    ------
    ValueError
        If the ratio is not in [0, 1), or kvpress has no press that does what the policy does.
    """
    scores = scores or kvpress().ExpectedAttentionPress()
    scores.compression_ratio = check_ratio(ratio)
    if policy == "topk":
        return scores
    if policy == "adakv":
        return kvpress().AdaKVPress(scores)
    if policy == "chunk":
        return kvpress().ChunkPress(scores, chunk_length=chunk_length)
    raise ValueError(f"policy {policy!r} has no press to compare with; choose from: adakv, chunk, topk")


def reference_kept(model: Any, input_ids: Any, press: Any) -> Kept:
    """Run a real kvpress press over a context and record what it kept, bool[n_layers, n_kv_heads, n].

    Read off the index with which a ScorerPress or ChunkPress gathers the rows it keeps, or off the mask
    that AdaKVPress leaves on the attention module.

    Raises
    ------
    ValueError
        If the press does neither (merges rows, evicts later, ...).
    """
    does, kept = press, []
    while type(does).compress is kvpress().BasePress.compress and hasattr(does, "press"):
        does = does.press  # a wrapper that leaves the work to what it wraps
    compress = does.compress

    def recording(*arguments: Any) -> Any:
        result, alive = _compressed(press, compress, arguments)
        kept.append(alive)
        return result

    does.compress = recording
    try:
        with patched_attention(), _rotary(model), plain_errors(press), press(model):
            prefill(model, input_ids)
    finally:
        del does.compress
        for module in attention_modules(model):
            module.masked_key_indices = None
    if not kept:
        raise ValueError(
            f"cannot tell which rows {type(press).__name__} keeps: its compress does not run in the prefill"
        )
    return np.stack(kept)


def kept_in_one_prefill(model: Any, input_ids: Any, presses: Sequence[Any]) -> Kept:
    """Ask every press what it would keep, in one prefill, bool[n_presses, n_layers, n_kv_heads, n].

    A press prunes after a layer's attention has run, so each is asked on the whole cache of the layer, and what
    it returns is dropped. Only for presses that do nothing but ``compress``: see `only_compresses`.
    """
    kept: list[list[Kept]] = [[] for _ in presses]

    def hook(module: Any, _args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        layer, hidden = cached_layer(module, kwargs), kwargs["hidden_states"]
        for press, rows in zip(presses, kept, strict=True):
            # Clones: a press may write into what it is given.
            arguments = (module, hidden, layer.keys.clone(), layer.values.clone(), output[1], dict(kwargs))
            with plain_errors(press):
                rows.append(_compressed(press, press.compress, arguments)[1])
        module.masked_key_indices = None

    with _hooked(model, hook):
        for press in presses:
            press.post_init_from_model(model)
        prefill(model, input_ids)
    return np.array(kept)


def only_compresses(press: Any) -> bool:
    """Return whether a press runs as kvpress's BasePress does, with nothing but a ``compress`` of its own."""
    base = kvpress().BasePress
    return type(press).forward_hook is base.forward_hook and type(press).__call__ is base.__call__


def _compressed(press: Any, compress: Any, arguments: tuple[Any, ...]) -> tuple[Any, Kept]:
    """Run ``compress`` on one layer; returns its result and which rows it kept, bool[n_kv_heads, n]."""
    module, keys = arguments[0], arguments[2]
    before = keys.clone(), arguments[3].clone()  # a press may write into what it is given
    module.masked_key_indices = None
    with _recorded_gather() as indices:
        result = compress(*arguments)
    alive = _alive(module.masked_key_indices, indices, keys.shape[1:3])
    masked = module.masked_key_indices is not None
    if not masked and (alive.sum(axis=1) != result[0].shape[2]).any():
        raise ValueError(f"cannot tell which rows {type(press).__name__} keeps")
    # Keys may be rotated to new positions; values that are kept stay as they were.
    whole = before[0].equal(result[0]) and before[1].equal(result[1])
    if not (before[1].gather(2, indices[-1]).equal(result[1]) if indices else masked or whole):
        raise ValueError(f"{type(press).__name__} changes rows, and does not only evict them")
    return result, alive


def _alive(masked: Any, gathered: Sequence[Any], shape: tuple[int, int]) -> Kept:
    """Return which rows of one layer are alive after a mask, or after a gather, bool[n_kv_heads, n]."""
    alive = np.full(shape, masked is not None or not gathered)
    if masked is not None:
        _, heads, rows = (index.cpu().numpy() for index in masked)
        alive[heads, rows] = False
    elif gathered:
        np.put_along_axis(alive, gathered[-1][0, :, :, 0].cpu().numpy(), True, axis=1)
    return alive


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
            "not tell them; choose a registered scorer, or ask routegraph.validate.kept.survivors ratio by ratio"
        )


@contextmanager
def plain_errors(press: Any) -> Iterator[None]:
    """Turn what a press asserts or raises into one sentence that names it."""
    try:
        yield
    except (AssertionError, NotImplementedError, RuntimeError, OSError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        name = getattr(press, "__name__", type(press).__name__)
        raise ValueError(f"{name} cannot run here: {why}") from error
    except ValueError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _chunks(n: int, length: int | None) -> list[slice]:
    step = length or n
    return [slice(start, start + step) for start in range(0, n, step)]


@contextmanager
def _hooked(model: Any, hook: Any) -> Iterator[None]:
    """Call `hook` after the attention of each layer."""
    with _rotary(model):
        handles = [
            module.register_forward_hook(hook, with_kwargs=True) for module in attention_modules(model)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def _rotary(model: Any) -> Iterator[None]:
    """Let each attention module see the model's rotary embedding, as scorers expect, and take it away again."""
    modules = [module for module in attention_modules(model) if not hasattr(module, "rotary_emb")]
    for module in modules:
        module.rotary_emb = model.base_model.rotary_emb
    try:
        yield
    finally:
        for module in modules:
            del module.rotary_emb


@contextmanager
def _recorded_gather() -> Iterator[list[Any]]:
    """Collect the indices of every ``tensor.gather(2, index)``."""
    import torch

    indices: list[Any] = []
    original = torch.Tensor.gather

    def gather(tensor: Any, dim: int, index: Any, *args: Any, **kwargs: Any) -> Any:
        if dim == 2 and index.ndim == 4:
            indices.append(index)
        return original(tensor, dim, index, *args, **kwargs)

    torch.Tensor.gather = gather
    try:
        yield indices
    finally:
        torch.Tensor.gather = original
