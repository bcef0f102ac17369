"""Attention as a layer of a model means it: scale, soft cap and sliding window, for whatever recomputes it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.models.families import family_of, known_family

#: Queries whose weights are held at a time.
BLOCK = 128
#: How many lengths of keys all blocks of a context meet, if it is longer than these.
SHAPES, _SHORT = 32, 2048
#: Attention of models whose logits are capped, which transformers' sdpa leaves out.
CAPPED = "routegraph_capped"


@dataclass(frozen=True)
class Attention:
    """How a layer's attention weights follow from queries and keys.

    Attributes
    ----------
    scaling : float
        What a product of query and key is multiplied by.
    softcap : float or None
        The c of logits that are c * tanh(logit / c).
    window : int
        How many rows a query sees, its own among them; 0: all that came before.
    """

    scaling: float
    softcap: float | None = None
    window: int = 0

    def capped(self, products: Any) -> Any:
        """Turn products of queries and keys into logits, in place but for a cap, whose gradient needs what it caps."""
        if self.softcap is None:
            return products if self.scaling == 1 else products.mul_(self.scaling)
        return products.mul_(self.scaling / self.softcap).tanh_().mul(self.softcap)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError where transformers asks for attention of another kind, by the settings it calls with."""
        told = {"scaling": self.scaling, "sliding_window": self.window or None, "softcap": self.softcap}
        for name, setting in settings.items():
            if name in (*told, "s_aux") and setting is not None and setting != told.get(name):
                raise ValueError(
                    f"routegraph does not know attention with {name!r} here, which is {setting!r}"
                )

    def hidden(self, queries: Any, keys: Any) -> Any:
        """Return which keys each query does not see, by their positions: bool[n_queries, n_keys]."""
        behind = keys > queries[:, None]
        return behind if not self.window else behind | (keys <= queries[:, None] - self.window)


def attention_of(module: Any) -> Attention:
    """Return how an attention module of a registered family attends."""
    config = module.config
    family = known_family(config, type(module).__name__)
    return Attention(module.scaling, family.softcap(config), family.windows(config)[module.layer_idx])


def seen_rows(windows: Sequence[int], n: int) -> NDArray[np.bool_]:
    """Return which rows of a context of `n` the first query after it sees in each layer, bool[n_layers, n].

    `windows` are the layers' sliding windows, in rows, the query's own among them; 0: none.
    """
    first = [max(0, n + 1 - window) if window else 0 for window in windows]
    return np.arange(n) >= np.array(first)[:, None]


@dataclass(frozen=True, eq=False)
class Scratch:
    """Memory for the logits of one block after the other.

    Made anew for every block of a long context, tens of megabytes would be mapped and given back thousands of times.
    """

    products: Any
    logits: Any

    @classmethod
    def of(cls, queries: Any, n_queries: int, n_keys: int) -> Scratch:
        """Return memory for blocks of up to so many queries and keys; queries [n_query_heads, n, head_dim]."""
        import torch

        size = len(queries) * n_queries * n_keys
        products = queries.new_empty(size)
        same = products.dtype == torch.float32
        return cls(products, products if same else products.new_empty(size, dtype=torch.float32))

    def multiplied(self, queries: Any, keys: Any) -> Any:
        """Return the products of queries and keys as float32; they lie here until the next call."""
        import torch

        shape = len(queries), queries.shape[1], keys.shape[1]
        size = math.prod(shape)
        product = torch.matmul(queries, keys.transpose(1, 2), out=self.products[:size].view(shape))
        return product if self.logits is self.products else self.logits[:size].view(shape).copy_(product)


def end_of_keys(stop: int, n: int) -> int:
    """Return how many of `n` keys a block of queries is multiplied by that sees the first `stop`.

    In bfloat16 torch's library keeps a program for each shape it has met, of four megabytes: in a long context all
    blocks make do with `SHAPES` of them, and what is beyond `stop` is not looked at.
    """
    step = -(-n // SHAPES) if n > _SHORT else 1
    return min(n, -(-stop // step) * step)


def logits_of_all(queries: Any, keys: Any, attention: Attention, scratch: Scratch | None = None) -> Any:
    """Return the logits of queries with keys, whether they see them or not: float32[n_query_heads, n_queries, n_keys].

    With `scratch` they lie there until the next call.
    """
    import torch

    n_query_heads, n_queries, width = queries.shape
    n_heads, n_keys = keys.shape[:2]
    grouped = queries.reshape(n_heads, -1, width)  # the query heads of a group lie side by side
    if scratch is None:
        products = torch.matmul(grouped, keys.transpose(1, 2)).float()
    else:
        products = scratch.multiplied(grouped, keys)
    return attention.capped(products).reshape(n_query_heads, n_queries, n_keys)


def attention_logits(queries: Any, keys: Any, attention: Attention, start: int) -> Any:
    """Return the logits of a block of queries, the first at position `start`, with all keys up to its end, or beyond.

    float32[n_query_heads, n_queries, n_keys]; where a query does not see a key, the smallest number there is (not
    minus infinity, which times a weight of 0 would be no number).
    """
    import torch

    n_queries, n_keys = queries.shape[1], keys.shape[1]
    logits = logits_of_all(queries, keys, attention)
    position = torch.arange(n_keys, device=keys.device)
    first = 0 if attention.window else start  # without a window, all that came before the block is seen
    unseen = attention.hidden(position[start : start + n_queries], position[first:])
    logits[..., first:].masked_fill_(unseen, torch.finfo(torch.float32).min)
    return logits


def suits_kernels(network: Any) -> bool:
    """Return whether our kernels can read what a model works out: on a CPU, in float32."""
    import torch

    return bool(network.device.type == "cpu" and network.dtype == torch.float32)


@contextmanager
def attending(network: Any, name: str, function: Any, masks: Any = None) -> Iterator[None]:
    """Let a model attend by a function of one's own, registered under a name; afterwards all is as it was.

    `masks` makes the masks it is called with; by default there are none. Attention of a kind that we do not know is
    refused, see `Attention.check`.
    """
    from transformers import AttentionMaskInterface
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    known_of = cache(attention_of)  # asked in every layer of every pass

    def known(module: Any, *states: Any, **settings: Any) -> Any:
        known_of(module).check(settings)
        return function(module, *states, **settings)

    before = network.config._attn_implementation
    ALL_ATTENTION_FUNCTIONS[name] = known
    if masks is not None:
        AttentionMaskInterface.register(name, masks)
    network.config._attn_implementation = name
    try:
        yield
    finally:
        network.config._attn_implementation = before
        del ALL_ATTENTION_FUNCTIONS[name]
        if masks is not None:
            del AttentionMaskInterface._global_mapping[name]


def implementation(config: Any) -> str:
    """Return which of transformers' attention implementations a model is read with, registered if it is ours."""
    family = family_of(config)
    if family is None or family.softcap(config) is None:
        return "sdpa"
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    if CAPPED not in AttentionInterface._global_mapping:
        AttentionInterface.register(CAPPED, _capped_attention)
        AttentionMaskInterface.register(CAPPED, eager_mask)
    return CAPPED


def check_attention(model: Any, name: str = "") -> None:
    """Raise ValueError unless a transformers model runs sdpa attention, or ours where sdpa leaves its soft cap out."""
    running, wanted = model.config._attn_implementation, implementation(model.config)
    if running != wanted:
        why = (
            "scorers and presses were checked with sdpa" if wanted == "sdpa" else "it leaves the soft cap out"
        )
        raise ValueError(
            f"model {name or type(model).__name__!r} runs {running} attention, and {why}; call "
            f'model.set_attn_implementation("{wanted}") first'
        )


def _capped_attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    dropout: float = 0.0,
    scaling: float = 1.0,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Attend with capped logits, as transformers' eager attention does, and give no weights away."""
    import torch

    group = query.shape[1] // key.shape[1]
    key, value = (rows.repeat_interleave(group, dim=1) for rows in (key, value))
    keys, parts = key.transpose(2, 3), []
    for start in range(0, query.shape[2], BLOCK):
        rows = slice(start, start + BLOCK)
        logits = Attention(scaling, softcap).capped(query[:, :, rows] @ keys)
        if mask is not None:
            logits += mask[:, :, rows]
        parts.append(logits.softmax(-1, dtype=torch.float32).to(query.dtype) @ value)
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None
