"""A reply under gates: all rows after a context attend to its slots with something added to the logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.models.attention import Attention, attending, attention_logits, attention_of
from routegraph.validate.models.head import flat_head
from routegraph.validate.predict.reads import run_after

Ids = NDArray[np.int64]

_ATTENTION = "routegraph_gated"


def gates_of(network: Any, cache: Any, value: float = 0.0, spared: int = 0) -> Any:
    """Return gates that all have one value but for those of the first rows, which have none.

    float32[n_layers, n_heads, n_context], of which gradients can be asked.
    """
    import torch

    shape = (len(cache.layers), *cache.layers[0].keys.shape[1:3])
    gates = torch.full(shape, float(value), device=network.device)
    gates[..., :spared] = 0
    return gates.requires_grad_(True)


def gated_logits(network: Any, cache: Any, question: Ids, reply: Ids, gates: Any) -> Any:
    """Return the logits that a reply's tokens are read from, float32[n_reply, n_vocabulary].

    Parameters
    ----------
    network : transformers model
    cache : cache
        Of the context; it is as before afterwards.
    question, reply : int64[...]
    gates : tensor[n_layers, n_heads, n_context]
        Added to the logits of the context's slots, in every row after it.

    Raises
    ------
    ValueError
        If question or reply has no tokens.
    """
    with flat_head(network), _gated(network, gates):
        found = run_after(network, cache, question, reply, logits_to_keep=len(reply))
    return found.logits[0].float()


@contextmanager
def _gated(network: Any, gates: Any) -> Iterator[None]:
    """Let the rows after a context attend with `gates` added to the logits of its slots."""
    import torch
    from torch.utils.checkpoint import checkpoint

    n = gates.shape[2]

    def attend(query: Any, key: Any, value: Any, gate: Any, attention: Attention) -> Any:
        n_heads, n_keys, width = key.shape
        n_rows = query.shape[1]
        logits = attention_logits(query, key, attention, n_keys - n_rows)
        gate = torch.nn.functional.pad(gate, (0, n_keys - n))
        logits = logits.unflatten(0, (n_heads, -1)) + gate[:, None, None]
        weights = logits.softmax(-1).to(value.dtype)
        read = weights.flatten(1, 2) @ value
        return read.reshape(1, -1, n_rows, width).transpose(1, 2).contiguous()

    def attention(module: Any, query: Any, key: Any, value: Any, _mask: Any, **_: Any) -> tuple[Any, None]:
        of_one = query[0], key[0], value[0], gates[module.layer_idx], attention_of(module)
        # The weights of a long context are gigabytes over all layers: the way back works a layer's out again.
        return checkpoint(attend, *of_one, use_reentrant=False, preserve_rng_state=False), None

    with attending(network, _ATTENTION, attention):
        yield
