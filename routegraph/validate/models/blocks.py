"""Long contexts: in less memory, for an MLP takes some rows at a time and attention is never held whole; and told of.

A context of 32,768 tokens in one pass holds three times its width in the MLP, gigabytes of a small model. Rows do not
meet there, so they are taken in blocks; scores and hooks still see a layer's whole context at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from routegraph.validate.models.attention import attending

#: Rows whose MLP is worked out together; contexts up to this length are run as transformers does.
ROWS = 4096

#: Rows of a pass that takes long enough for its layers to be told of.
LONG = 1024

_ATTENTION = "routegraph_repeated"


@contextmanager
def in_blocks(network: Any, n: int) -> Iterator[None]:
    """Run contexts of `n` tokens without what torch need not hold at once; the model is put back afterwards.

    The numbers stay the same up to rounding, and to the bit where `n` is at most `ROWS`.
    """
    if n <= ROWS:
        yield
        return
    with ExitStack() as stack:
        if _holds_all_weights(network):
            from transformers.masking_utils import sdpa_mask

            stack.enter_context(attending(network, _ATTENTION, _repeated, sdpa_mask))
        stack.enter_context(_mlps_in_blocks(network))
        yield


@contextmanager
def layers_told(network: Any, told: Callable[[int], None]) -> Iterator[None]:
    """Call ``told(layer)``, layers counted from 1, after each layer of every pass over `LONG` rows or more."""

    def of_layer(number: int) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, states: Any) -> None:
            if states.shape[1] >= LONG:
                told(number)

        return hook

    with ExitStack() as stack:
        for number, layer in enumerate(network.base_model.layers, start=1):
            stack.enter_context(layer.mlp.register_forward_hook(of_layer(number)))
        yield


@contextmanager
def _mlps_in_blocks(network: Any) -> Iterator[None]:
    """Let the MLP of every layer take some rows at a time."""
    mlps = [layer.mlp for layer in network.base_model.layers]
    before = [mlp.__dict__.get("forward") for mlp in mlps]
    for mlp in mlps:
        mlp.forward = partial(_by_rows, mlp.forward)
    try:
        yield
    finally:
        for mlp, forward in zip(mlps, before, strict=True):
            del mlp.forward  # the method of its class shows again
            if forward is not None:
                mlp.forward = forward


def _by_rows(forward: Any, states: Any) -> Any:
    """Return what `forward` makes of states [batch, n, width], some rows at a time."""
    import torch

    out = torch.empty_like(states)
    for start in range(0, states.shape[1], ROWS):
        rows = slice(start, start + ROWS)
        out[:, rows] = forward(states[:, rows])
    return out


def _holds_all_weights(network: Any) -> bool:
    """Return whether torch's sdpa would hold the attention of all heads, n x n numbers each.

    On CUDA its kernel for float32 knows no key that several query heads share.
    """
    config = network.config
    shared = config.num_key_value_heads != config.num_attention_heads
    return bool(
        network.device.type == "cuda"
        and network.dtype.itemsize >= 4
        and shared
        and config._attn_implementation == "sdpa"
    )


def _repeated(
    module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float | None = None, **_: Any
) -> tuple[Any, None]:
    """Attend with keys and values repeated for each query head, which every kernel of torch's knows."""
    import torch

    group = query.shape[1] // key.shape[1]
    key, value = (rows.repeat_interleave(group, dim=1) for rows in (key, value))
    read = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, is_causal=mask is None
    )
    return read.transpose(1, 2).contiguous(), None
