"""Who may read whom while the tiny models are taught: masks that leave only the routes one wants to be learnt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.tasks.lexicon import STOP
from routegraph.validate.tasks.words import Batch
from routegraph.validate.train.network import BLOCK

#: bool[n_tokens, n_tokens]: whether a row (first axis) may read a row; the same in the whole batch.
Mask = NDArray[np.bool_]


def causal_mask(batch: Batch) -> Mask:
    """Return the mask of a decoder that is not helped, bool[n_tokens, n_tokens]."""
    return np.tri(batch.tokens.shape[1], dtype=bool)


def late_mask(batch: Batch, mask: Mask, late: NDArray[np.bool_]) -> Mask:
    """Return a mask with the context, but for its first row, hidden from the questions that are late.

    Questions before them stay in sight.
    """
    places = np.arange(batch.tokens.shape[1])
    question = np.searchsorted(batch.columns, places)  # of the rows behind the context
    hidden = (places >= batch.n_context) & late[question]
    return mask & ~(hidden[:, None] & (places > 0) & (places < batch.n_context))


def route_mask(batch: Batch) -> Mask:
    """Return which row may read which in training, bool[n_tokens, n_tokens]: see the module's text."""
    n, total = batch.n_context, batch.tokens.shape[1]
    stops = (batch.tokens == STOP).all(axis=0)
    sentence = np.concatenate([[0], np.cumsum(stops)[:-1]])
    places = np.arange(total)
    own = (sentence[:, None] == sentence) | (places == 0)
    asking = places[:, None] >= n
    readable = np.where(asking, ~(stops & (places < n)), own)
    return np.asarray(readable & causal_mask(batch))


@contextmanager
def masked_below(network: Any, mask: Any) -> Iterator[None]:
    """Give the lower block a mask of its own inside a with block."""

    def exchange(_layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "attention_mask": mask}

    with ExitStack() as stack:
        for layer in network.model.layers[:BLOCK]:
            stack.enter_context(layer.register_forward_pre_hook(exchange, with_kwargs=True))
        yield


def spread(mask: Mask, batch: Batch) -> Any:
    """Return a mask as torch takes it, bool[n, 1, n_tokens, n_tokens]."""
    import torch

    return torch.from_numpy(mask).expand(len(batch.tokens), 1, -1, -1)
