"""kvpress itself: which rows its presses really keep, and our policies beside them, slot by slot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import policies
from routegraph.survival import check_ratio
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.prefill import (
    _hooked,
    attention_modules,
    cached_layer,
    plain_errors,
    prefill,
    prefill_scores,
    rotary,
)
from routegraph.validate.presses.scorers import SCORERS

Kept = NDArray[np.bool_]


def honour_masks() -> None:
    """Let all models attend by kvpress's attention functions from here on, as importing kvpress by itself does.

    They honour the masks of AdaKV, which go on counting while replies are decoded.
    """
    kvpress()
    from kvpress.attention_patch import attention_patch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    for name, function in dict(ALL_ATTENTION_FUNCTIONS.items()).items():
        # Already wrapped where the caller imported kvpress before routegraph did.
        if not function.__qualname__.startswith(attention_patch.__name__):
            ALL_ATTENTION_FUNCTIONS[name] = attention_patch(function)


@contextmanager
def patched_attention() -> Iterator[None]:
    """Run with kvpress's attention functions, which honour the masks of AdaKV, and put the old ones back."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    kvpress()
    before = dict(ALL_ATTENTION_FUNCTIONS.items())
    try:
        honour_masks()
        yield
    finally:
        for name, function in before.items():
            ALL_ATTENTION_FUNCTIONS[name] = function


def pipeline_of(model: Any) -> Any:
    """Return kvpress's pipeline over a `Loaded` model, which stays where it is; a pipeline left alone takes a GPU."""
    make = kvpress().KVPressTextGenerationPipeline
    return make(model=model.model, tokenizer=model.tokenizer, device=model.model.device)


def reference_press(policy: str, ratio: float, chunk_length: int = 64, scores: Any = None) -> Any:
    """Return the kvpress press that does what a policy of ours does.

    Parameters
    ----------
    policy : str
        Name of a policy of ours that declares its press.
    ratio : float
        Compression ratio.
    chunk_length : int
        For a policy that cuts chunks.
    scores : kvpress ScorerPress, optional
        What it scores by; kvpress's own ExpectedAttentionPress by default.

    Raises
    ------
    ValueError
        If the ratio is not in [0, 1), or kvpress has no press that does what the policy does.
    """
    scores = scores or kvpress().ExpectedAttentionPress()
    scores.compression_ratio = check_ratio(ratio)
    press = policies.declared(policy).press
    if press is None:
        raise ValueError(
            f"policy {policy!r} has no press to compare with; choose from: {', '.join(with_press())}"
        )
    if not press:
        return scores
    return getattr(kvpress(), press)(scores, **_chunk(policy, chunk_length))


def with_press() -> list[str]:
    """Return the policies that kvpress has, too."""
    return [name for name in policies.policies if policies.declared(name).press is not None]


def _chunk(policy: str, chunk_length: int) -> dict[str, int]:
    """Return the parameter of a policy that cuts chunks; nothing for others."""
    return {"chunk_length": chunk_length} if policies.declared(policy).scores == "chunks" else {}


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
        with patched_attention(), plain_errors(press), rotary(model), press(model), rotary(model):
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


#: Ratios at which kept rows are compared.
REFERENCE_RATIOS = (0.3, 0.5, 0.7, 0.9, 0.95)


@dataclass(frozen=True)
class KeptComparison:
    """How two sets of kept rows differ.

    Attributes
    ----------
    slots, ties, mismatches : int
        Slots compared; slots that differ with the very score at which the cut fell, which the two sides
        broke differently; slots that differ otherwise.
    """

    slots: int
    ties: int
    mismatches: int


def compare_kept(
    ours: Kept, theirs: Kept, scores: NDArray[np.float32], groups: NDArray[np.int64]
) -> KeptComparison:
    """Compare two kept sets slot by slot.

    ``torch.topk`` breaks ties arbitrarily, so of rows with equal scores at the cut either may be kept, if
    only as many are. Whatever else differs is a mismatch.

    Parameters
    ----------
    ours, theirs : bool[n_layers, n_heads, n]
        The kept sets.
    scores : float32[n_layers, n_heads, n]
        What both were chosen by.
    groups : int64[n_layers, n_heads, n]
        Which slots compete for the same places: see `competitors`.
    """
    differs = ours != theirs
    ties = 0
    for group in np.unique(groups[differs]):
        inside = groups == group
        apart = differs & inside
        same_score = len(np.unique(scores[apart])) == 1
        if same_score and ours[inside].sum() == theirs[inside].sum():
            ties += int(apart.sum())
    return KeptComparison(slots=differs.size, ties=ties, mismatches=int(differs.sum()) - ties)


def competitors(policy: str, shape: tuple[int, int, int], chunk_length: int = 64) -> NDArray[np.int64]:
    """Return, for each slot, the group whose slots compete under a policy, int64[n_layers, n_heads, n].

    As the policy declares: all heads of a layer, or the rows of a head; of those, each chunk by itself where it cuts
    chunks.
    """
    layer, head, row = np.indices(shape)
    group = layer if policies.declared(policy).competes == "layer" else layer * shape[1] + head
    length = _chunk(policy, chunk_length).get("chunk_length", shape[2])
    return np.asarray(group * -(-shape[2] // length) + row // length)


def compare_with_kvpress(
    model: Any,
    input_ids: Any,
    ratios: Sequence[float] = REFERENCE_RATIOS,
    chunk_length: int = 64,
    scorer: str | None = None,
    policy_names: Sequence[str] | None = None,
) -> list[tuple[str, float, KeptComparison]]:
    """Compare our policies with kvpress's presses on one context.

    Ours derive every ratio from the scores of one prefill; kvpress prunes in a run of its own for each.

    Parameters
    ----------
    model : transformers model
        With sdpa attention.
    input_ids : int[1, n] tensor
        The context.
    ratios : sequence of float
        Compression ratios.
    chunk_length : int
        For a policy that cuts chunks.
    scorer : str, optional
        Name of the scorer (see `scorers.SCORERS`) that kvpress's presses use; by default its own
        ExpectedAttentionPress, which gives the same scores, more slowly.
    policy_names : sequence of str, optional
        Policies; all that kvpress has, too, by default.

    Returns
    -------
    list of (policy, ratio, KeptComparison)
    """
    tables = prefill_scores(model, input_ids, SCORERS["expected_attention"](), [chunk_length])
    rows = []
    for policy in with_press() if policy_names is None else policy_names:
        own = _chunk(policy, chunk_length)
        scores = tables[own.get("chunk_length")]
        survival = policies.apply(policy, scores, **own)
        groups = competitors(policy, scores.shape, chunk_length)
        for ratio in ratios:
            by = SCORERS[scorer]() if scorer else None
            press = reference_press(policy, ratio, chunk_length, by)
            theirs = reference_kept(model, input_ids, press)
            rows.append((policy, ratio, compare_kept(survival.alive(ratio), theirs, scores, groups)))
    return rows
