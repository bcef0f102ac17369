"""Attention of variants to one shared cache on a CPU: a block of queries at a time, whose logits stay in the caches.

Between the product with the keys and that with the values a kernel of ours does all the rest, and reads each variant's
own rows: `routegraph.kernels.kept`. Threads share the products, as torch does, and not the kernel, a tenth of the time:
to wake them for every block cost what it saved.
"""

from __future__ import annotations

from typing import Any

from routegraph.kernels.kept import weigh_kept
from routegraph.validate.models.attention import attention_of, suits_kernels
from routegraph.validate.presses.prefill import attention_modules

#: Logits of a block, half a megabyte, unless its queries would be fewer than these: products of few rows are slow.
LOGITS, FEWEST = 2**17, 32


def by_kernel(network: Any) -> bool:
    """Return whether a model's variants attend by this module: on a CPU, in float32, without a soft cap."""
    capped = any(attention_of(module).softcap is not None for module in attention_modules(network))
    return suits_kernels(network) and not capped


def read_kept(
    query: Any,
    own: tuple[Any, Any],
    shared: tuple[Any, Any],
    gone: Any,
    variant: Any,
    place: Any,
    window: int,
) -> Any:
    """Attend from queries to the shared rows that their variants keep, and causally to the variants' own.

    Parameters
    ----------
    query : float32[n_query_heads, n_rows, head_dim]
        Scaled.
    own : float32[n_variants, n_heads, n_own, head_dim], twice
        Keys and values.
    shared : float32[n_heads, n_context, head_dim], twice
    gone : bool[n_variants, n_heads, n_context]
        Which context rows each variant does not read.
    variant, place : int64[n_rows]
        Whose each row is, and its place among the variant's own.
    window : int
        A row sees so many, its own among them; 0: all.

    Returns
    -------
    float32[n_rows, n_query_heads, head_dim]
    """
    import torch

    n_query_heads, n_rows, width = query.shape
    n_heads, n_context = shared[0].shape[:2]
    group = n_query_heads // n_heads
    # The query heads of a group read the same rows: those of one row lie side by side.
    query = query.unflatten(0, (n_heads, group)).transpose(1, 2).reshape(n_heads, -1, width)
    variant, place = (part.repeat_interleave(group).numpy() for part in (variant, place))
    keys, values = (rows.numpy() for rows in own)
    n, hidden = n_context + keys.shape[2], gone.numpy()
    scratch = query.new_empty(min(max(LOGITS // n, FEWEST), len(variant)), n)
    scales, read = query.new_empty(len(scratch), 1), torch.empty_like(query)
    for head, (shared_keys, shared_values) in enumerate(zip(*shared, strict=True)):
        for start in range(0, len(variant), len(scratch)):
            some = slice(start, start + len(scratch))
            asked, mixed = query[head, some], read[head, some]
            logits, scale = scratch[: len(asked)], scales[: len(asked)]
            weights = logits[:, :n_context]
            torch.mm(asked, shared_keys.T, out=weights)
            arrays = logits.numpy(), asked.numpy(), keys, values, head, variant[some], place[some], hidden
            weigh_kept(*arrays, window, mixed.numpy(), scale[:, 0].numpy())
            torch.addmm(mixed, weights, shared_values, out=mixed).mul_(scale)
    return read.unflatten(1, (n_rows, group)).transpose(0, 1).reshape(n_rows, n_query_heads, width)
