"""Everything that touches kvpress: scores of every cache row, and what a press really keeps.

kvpress prunes in a forward hook after a layer's attention has run, so the scores of later layers do not
depend on the compression ratio: one prefill gives the scores behind every ratio.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.registry import Registry

#: Registry of scorers: functions of keyword parameters that return a kvpress ScorerPress.
SCORERS = scorer = Registry("scorer")

Scores = NDArray[np.float32]
Kept = NDArray[np.bool_]


@scorer("expected_attention")
def expected_attention(
    *,
    n_sink: int = 4,
    n_future_positions: int = 512,
    use_covariance: bool = True,
    use_vnorm: bool = True,
    epsilon: float = 0.0,
) -> Any:
    """Score by the expected attention of future queries times the norm of the value (arXiv 2510.00636)."""
    return _expected_attention_press()(
        n_sink=n_sink,
        n_future_positions=n_future_positions,
        use_covariance=use_covariance,
        use_vnorm=use_vnorm,
        epsilon=epsilon,
    )


def kvpress() -> Any:
    """Import kvpress without its side effect, and return it.

    Importing it wraps every attention function that transformers has registered, for every model of the
    process; they are put back. Press by press, `patched_attention` wraps them where that is needed.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = dict(ALL_ATTENTION_FUNCTIONS.items())
    import kvpress

    for name, function in before.items():
        if ALL_ATTENTION_FUNCTIONS[name] is not function:
            ALL_ATTENTION_FUNCTIONS[name] = function
    return kvpress


@functools.cache
def _expected_attention_press() -> Any:
    """Return kvpress's ExpectedAttentionPress with the mean rotation of the future positions worked out once.

    The press works it out again for every layer and every chunk, which is three quarters of its time; the
    scores stay the same to the last bit.
    """
    base = kvpress().ExpectedAttentionPress

    class OneRotation(base):  # type: ignore[misc, valid-type]
        def apply_avg_rope(self, module: Any, mu: Any, cov: Any, q_len: int) -> tuple[Any, Any]:
            import torch

            known: dict[int, Any] = self.__dict__.setdefault("_rotations", {})
            if q_len not in known:
                identity = torch.eye(mu.shape[-1], dtype=mu.dtype, device=mu.device)
                known[q_len] = super().apply_avg_rope(module, identity, None, q_len)[0].T.contiguous()
            rotation = known[q_len]
            rotated = torch.matmul(mu, rotation.T)
            return rotated, None if cov is None else rotation @ (cov @ rotation.T)

    return OneRotation


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


def check_chunk_length(chunk_length: int, n_sink: int) -> None:
    """Raise ValueError unless a chunk holds a row that is not set aside as one of its `n_sink` first."""
    if chunk_length <= n_sink:
        raise ValueError(
            f"chunk length must be above {n_sink}, the tokens protected in each chunk, got {chunk_length}"
        )


def check_length(n: int, n_sink: int, chunk_length: int | None, what: str) -> None:
    """Raise ValueError unless a context of `n` tokens, or each of its chunks, can be scored.

    A scorer that sets `n_sink` rows aside needs at least one more. `what` names the context in the error.
    """
    if n <= n_sink:
        raise ValueError(f"{what} must have more than {n_sink} tokens to be scored, got {n}")
    if chunk_length is None:
        return
    check_chunk_length(chunk_length, n_sink)
    rest = n % chunk_length
    if 0 < rest <= n_sink:
        raise ValueError(
            f"{what} has {n} tokens, so its last chunk of {chunk_length} has only {rest}, and more than "
            f"{n_sink} are needed; choose another chunk length, or lengthen or shorten the prompt"
        )


def prefill_scores(
    model: Any, input_ids: Any, press: Any, chunk_lengths: Sequence[int] = (), also: Any = None
) -> dict[int | None, Scores]:
    """Score every cache row in one prefill of a context; nothing is evicted.

    Parameters
    ----------
    model : transformers model
        With sdpa attention.
    input_ids : int[1, n] tensor
        One context; presses ignore the attention mask, so no padding.
    press : kvpress ScorerPress
        Whose ``score`` is called, layer by layer. Make one for each prefill: it may keep what it worked out.
    chunk_lengths : sequence of int
        Score each chunk of so many rows by itself, too (the last chunk may be shorter).
    also : forward hook, optional
        Called after each layer's attention in the same prefill.

    Returns
    -------
    dict of int or None to float32[n_layers, n_kv_heads, n]
        None: scores of the whole context; else by chunk length, as ChunkPress sees them.

    Raises
    ------
    ValueError
        If the context or a chunk is too short.
    """
    n = int(input_ids.shape[1])
    for length in (None, *chunk_lengths):
        check_length(n, getattr(press, "n_sink", 0), length, "the context")
    tables: dict[int | None, list[Scores]] = {length: [] for length in (None, *chunk_lengths)}

    def hook(module: Any, _args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        layer = kwargs["past_key_values"].layers[module.layer_idx]
        hidden = kwargs["hidden_states"]
        for length, table in tables.items():
            parts = [
                press.score(
                    module,
                    hidden[:, rows],
                    layer.keys[:, :, rows],
                    layer.values[:, :, rows],
                    output[1],
                    kwargs,
                )
                for rows in _chunks(n, length)
            ]
            table.append(np.concatenate([part[0].float().cpu().numpy() for part in parts], axis=-1))
        if also is not None:
            also(module, _args, kwargs, output)

    with _hooked(model, hook):
        prefill(model, input_ids)
    scores = {length: np.stack(table) for length, table in tables.items()}
    if not all(np.isfinite(table).all() for table in scores.values()):
        raise ValueError(f"the scores are not finite in {model.dtype}; use float32")
    return scores


def prefill(model: Any, input_ids: Any) -> Any:
    """Run a context of shape [1, n] through a model from an empty cache, and return the cache.

    The cache is a plain one that keeps every row; the logits, which nobody asked for, are not computed.
    """
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    with torch.no_grad():
        model.base_model(input_ids.to(model.device), past_key_values=cache, use_cache=True)
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
        If kvpress has no press that does what the policy does.
    """
    scores = scores or kvpress().ExpectedAttentionPress()
    scores.compression_ratio = ratio
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
    compress, kept = press.compress, []

    def recording(module: Any, hidden: Any, keys: Any, values: Any, attentions: Any, kwargs: Any) -> Any:
        module.masked_key_indices = None
        with _recorded_gather() as indices:
            result = compress(module, hidden, keys, values, attentions, kwargs)
        alive = _alive(module.masked_key_indices, indices, keys.shape[1:3])
        if module.masked_key_indices is None and (alive.sum(axis=1) != result[0].shape[2]).any():
            raise ValueError(f"cannot tell which rows {type(press).__name__} keeps")
        kept.append(alive)
        return result

    press.compress = recording
    try:
        with patched_attention(), _rotary(model), press(model):
            prefill(model, input_ids)
    finally:
        del press.compress
        for module in attention_modules(model):
            module.masked_key_indices = None
    return np.stack(kept)


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
        if dim == 2:
            indices.append(index)
        return original(tensor, dim, index, *args, **kwargs)

    torch.Tensor.gather = gather
    try:
        yield indices
    finally:
        torch.Tensor.gather = original
