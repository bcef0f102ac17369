"""What a linear probe is given: hidden states of the question over the surviving cache, and that cache itself.

A prompt is prefilled once and all (policy, ratio) variants are decoded in one batch, as `measure` does it; the replies
are judged, so that probe and generation are of the same items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.decoding.decode import decode
from routegraph.validate.measure.item import Item, distinct_variants, evicted
from routegraph.validate.models.load import Loaded
from routegraph.validate.plan import Plan
from routegraph.validate.prompts.verdict import judge

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Features:
    """Features of every variant of every item, policies outermost.

    Attributes
    ----------
    hidden : float32[n_items, n_variants, 2 * width]
        Hidden states of the rows after the context (question and answer prefix), mean over the rows: after the middle
        layer, and after the last one and its norm.
    cache : float32[n_items, n_variants, n_layers * n_heads * head_dim]
        Values of a (layer, KV head), mean over the rows that survive in it; zeros where none does. Keys are left out:
        they are rotated by their positions, so that a mean of them tells little.
    right : bool[n_items, n_variants]
        Whether the reply is right.
    """

    hidden: Floats
    cache: Floats
    right: NDArray[np.bool_]


def middle(n_layers: int) -> int:
    """Return how many layers the middle one has behind it, itself included."""
    return max(1, n_layers // 2)


def item_features(model: Loaded, item: Item, plan: Plan) -> tuple[Floats, Floats, Any]:
    """Return hidden states, cache means and right of one item, each a row a (policy, ratio)."""
    cache, evictions = evicted(model, item, plan.seed)
    survivals = [eviction.survivals(plan.ratios) for eviction in evictions]
    distinct, which = distinct_variants(survivals, plan.ratios)
    with question_states(model) as states:
        replies = decode(model, cache, item.asked.question, distinct, plan.max_new_tokens, n_logits=0)
    hidden = np.concatenate([np.concatenate(part) for part in states], axis=1)
    right = np.array([judge(item.prompt, text, plan.grader).right for text in replies.texts])
    return hidden[which], surviving_values(cache, distinct)[which], right[which]


def stacked(parts: Sequence[tuple[Floats, Floats, Any]]) -> Features:
    """Return the features of all items from those of each."""
    hidden, cache, right = (np.stack(column) for column in zip(*parts, strict=True))
    return Features(hidden, cache, right.astype(bool))


def surviving_values(cache: Any, kept: NDArray[np.bool_]) -> Floats:
    """Return the mean of the surviving values of every slot, one slot after the other.

    Parameters
    ----------
    cache : DynamicCache
        Of one context.
    kept : bool[n_variants, n_layers, n_heads, n_context]

    Returns
    -------
    float32[n_variants, n_layers * n_heads * head_dim]
        Zeros where nothing survives.
    """
    parts = []
    for number, layer in enumerate(cache.layers):
        values = layer.values[0].float().cpu().numpy()
        alive = kept[:, number].astype(np.float32)
        rows = np.maximum(alive.sum(axis=2), 1)
        parts.append(np.einsum("vhn,hnd->vhd", alive, values) / rows[..., None])
    return np.stack(parts, axis=1).reshape(len(kept), -1)


@contextmanager
def question_states(model: Loaded) -> Iterator[tuple[list[Floats], list[Floats]]]:
    """Collect the mean hidden state of each pass that starts on an empty cache of its own.

    Of `decode`, that is the question's, batch by batch: after the middle layer, and after the last one and its norm,
    float32[n_variants, width] each.
    """
    found: tuple[list[Floats], list[Floats]] = ([], [])

    def hook(states: list[Floats]) -> Any:
        def collect(_module: Any, _args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
            state = getattr(output, "last_hidden_state", output)
            state = state[0] if isinstance(state, tuple) else state
            if kwargs["past_key_values"].get_seq_length() == state.shape[1]:
                states.append(state.float().mean(dim=1).cpu().numpy())

        return collect

    base = model.model.base_model
    modules = (base.layers[middle(model.n_layers) - 1], base)
    with ExitStack() as stack:
        for module, states in zip(modules, found, strict=True):
            stack.enter_context(module.register_forward_hook(hook(states), with_kwargs=True))
        yield found
