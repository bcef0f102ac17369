"""The attention of variants that share one cache: each reads the context rows it keeps, and causally its own rows.

A press drops cache rows once the context is prefilled, and positions go on from the context's length as if
nothing were gone. Masking the dropped rows from the question on is therefore the same, and any number of
variants can read one cache. Presses that move what they keep (key rerotation) or merge rows are not covered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.decoding.read_kept import by_kernel, read_kept
from routegraph.validate.models.attention import Attention, attending, attention_of
from routegraph.validate.models.head import flat_head
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses.prefill import attention_modules

Kept = NDArray[np.bool_]

_ATTENTION = "routegraph_shared_cache"


@dataclass(frozen=True, eq=False)
class Chunks:
    """The rows of one pass: some tokens of each of some variants, one variant after the other.

    Attributes
    ----------
    ids : int64[n_rows]
    variant : int64[n_rows]
        Whose token it is.
    place : int64[n_rows]
        Which of the variant's own rows it is: the first token of the question is 0.
    """

    ids: NDArray[np.int64]
    variant: NDArray[np.int64]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Sequence[tuple[int, int, Any]]) -> Chunks:
        """Return the rows of (variant, place of its first token, tokens)."""
        sizes = [len(ids) for _, _, ids in parts]
        return cls(
            np.concatenate([np.asarray(ids, dtype=np.int64) for _, _, ids in parts]),
            np.repeat([variant for variant, _, _ in parts], sizes),
            np.concatenate([np.arange(start, start + len(ids)) for _, start, ids in parts]),
        )


class OwnRows:
    """Keys and values of the variants' own rows, at their places; what transformers takes for a cache.

    A row that is computed again takes the place of the old one, and no row reads what lies behind its own place: the
    rows of tokens that were not the right ones need not be removed.
    """

    is_compileable = False

    def __init__(self, n_variants: int, n_rows: int) -> None:
        self._shape = n_variants, n_rows
        self._layers: dict[int, tuple[Any, Any]] = {}
        self._length = 0
        self._where: tuple[Any, Any] = (None, None)

    def begin(self, variant: Any, place: Any) -> None:
        """Say whose rows the next pass computes, and their places."""
        self._where = variant, place
        self._length = max(self._length, int(place.max()) + 1)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many places are filled in the longest of the variants."""
        return self._length

    def update(self, key: Any, value: Any, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Write rows [batch, n_kv_heads, n, head_dim] at their places; return them as they came."""
        if layer_idx not in self._layers:
            n_variants, n_rows = self._shape
            shape = n_variants, key.shape[1], n_rows
            self._layers[layer_idx] = tuple(rows.new_zeros(*shape, rows.shape[3]) for rows in (key, value))
        for held, rows in zip(self._layers[layer_idx], (key, value), strict=True):
            held[self._where[0], :, self._where[1]] = rows.transpose(1, 2).flatten(0, 1)
        return key, value

    def of_layer(self, layer: int, n: int) -> tuple[Any, Any]:
        """Return keys and values of the first n places, [n_variants, n_kv_heads, n, head_dim]."""
        key, value = self._layers[layer]
        return key[:, :, :n], value[:, :, :n]


@dataclass(frozen=True, eq=False)
class _Pass:
    """What the attention of every layer needs to know of the rows of one pass.

    `which` are the variants that take part, `slot` says where each row lies where all of them have as many rows as the
    one with most (`width`): slot = (number of the variant among `which`) * width + (number of the row in its variant).
    `everyone`: one row of every variant, in their order. `unseen` bool[n_rows, n] says which of the last n of context
    and own rows each does not see, by the layer's window.
    """

    variant: Any
    place: Any
    which: Any
    slot: Any
    width: int
    n_own: int
    everyone: bool
    unseen: dict[int, Any]

    @classmethod
    def of(
        cls, chunks: Chunks, n_variants: int, n_context: int, windows: Sequence[int], device: Any
    ) -> _Pass:
        import torch

        which, number, counts = np.unique(chunks.variant, return_inverse=True, return_counts=True)
        first = np.searchsorted(number, np.arange(len(which)))
        width = int(counts.max())
        slot = number * width + np.arange(len(number)) - first[number]
        variant, place = (torch.from_numpy(part).to(device) for part in (chunks.variant, chunks.place))
        taking_part, at = (torch.from_numpy(part).to(device) for part in (which, slot))
        n_own = int(chunks.place.max()) + 1
        position = torch.arange(n_context + n_own, device=device)
        unseen = {}
        for window in set(windows):  # without a window, all of the context is seen
            seen_by = position if window else position[n_context:]
            unseen[window] = Attention(1.0, window=window).hidden(place + n_context, seen_by)
        everyone = np.array_equal(chunks.variant, np.arange(n_variants))
        return cls(variant, place, taking_part, at, width, n_own, everyone, unseen)

    @property
    def full(self) -> bool:
        """Whether all variants that take part have equally many rows."""
        return len(self.which) * self.width == len(self.slot)

    def by_variant(self, rows: Any) -> Any:
        """Put rows [h, g, n_rows, d] at their slots: [n_which, h, g * width, d], zeros where there is none."""
        h, g, _, d = rows.shape
        if not self.full:
            held = rows.new_zeros(h, g, len(self.which) * self.width, d)
            held[:, :, self.slot] = rows
            rows = held
        return rows.reshape(h, g, -1, self.width, d).permute(2, 0, 1, 3, 4).reshape(-1, h, g * self.width, d)

    def in_rows(self, slots: Any) -> Any:
        """Take the rows out again: [n_which, h, g * width, d] as [h, g, n_rows, d]."""
        n, h, _, d = slots.shape
        rows = slots.reshape(n, h, -1, self.width, d).permute(1, 2, 0, 3, 4).reshape(h, -1, n * self.width, d)
        return rows if self.full else rows[:, :, self.slot]


@contextmanager
def shared_cache(model: Loaded, cache: Any, kept: Kept, n_own: int) -> Iterator[Any]:
    """Let variants read one cache, each its own rows of it; the model is put back afterwards.

    Parameters
    ----------
    model : Loaded
    cache : cache
        Of the context, one for all variants or one each: layers of keys and values
        [1 or n_variants, n_kv_heads, n_context, head_dim]. It is not changed.
    kept : bool[n_variants, n_layers, n_kv_heads, n_context]
        Which of its rows each variant reads.
    n_own : int
        Rows of their own that a variant can have.

    Yields
    ------
    callable
        ``step(chunks, last=0)`` runs `Chunks`, each of which goes on where its variant's known rows end, or before,
        and returns the logits of all rows, or of the last ones of every chunk where all are of one length,
        float32[n, n_vocabulary].
    """
    import torch

    network = model.model
    dead = torch.from_numpy(np.ascontiguousarray(~kept.swapaxes(0, 1))).to(network.device)
    layers = [attention_of(module) for module in attention_modules(network)]
    windows = [layer.window for layer in layers]
    on_cpu = by_kernel(network) and len(cache.layers[0].keys) == 1
    own = OwnRows(len(kept), n_own)
    now: list[_Pass] = []

    def attention(module: Any, query: Any, key: Any, value: Any, _mask: Any, **_: Any) -> tuple[Any, None]:
        layer, known = module.layer_idx, layers[module.layer_idx]
        shared, flat = cache.layers[layer], query.transpose(0, 1).flatten(1, 2)
        if on_cpu:
            whose, one = (now[-1].variant, now[-1].place), (shared.keys[0], shared.values[0])
            rows = own.of_layer(layer, n_own)
            read = read_kept(flat * known.scaling, rows, one, dead[layer], *whose, known.window)
        else:
            rows = own.of_layer(layer, now[-1].n_own)
            read = _attend(flat, *rows, shared.keys, shared.values, dead[layer], known, now[-1])
        return read.unflatten(0, (len(query), -1)), None

    def step(chunks: Chunks, last: int = 0) -> Any:
        # The kernel sees for itself what each row does not see.
        now[:] = [_Pass.of(chunks, len(kept), kept.shape[3], () if on_cpu else windows, network.device)]
        own.begin(now[-1].variant, now[-1].place)
        # Chunks of one length are a batch, as whoever watches the model expects it; others lie in one row.
        shape = (-1, now[-1].width) if now[-1].full else (1, -1)
        logits = network(
            torch.from_numpy(chunks.ids).to(network.device).reshape(shape),
            past_key_values=own,
            position_ids=(now[-1].place + kept.shape[3]).reshape(shape),
            use_cache=True,
            logits_to_keep=last,
        ).logits
        return logits.flatten(0, 1).float()

    with flat_head(network), attending(network, _ATTENTION, attention):
        yield step


def _attend(
    query: Any,
    key: Any,
    value: Any,
    shared_key: Any,
    shared_value: Any,
    dead: Any,
    attention: Attention,
    now: _Pass,
) -> Any:
    """Attend from the rows of a pass to the shared rows their variant keeps, and causally to its own.

    query [query heads, rows, d]; key, value [v, KV heads, t, d], the variants' own; shared_key, shared_value
    [v or 1, KV heads, n, d]; dead bool[v, KV heads, n]. Returns [rows, query heads, d].
    """
    import torch

    n_query_heads, n_rows, width = query.shape
    n_heads, n_own = key.shape[1:3]
    n_context = shared_key.shape[2]
    if len(now.which) < len(key):
        key, value = key[now.which], value[now.which]
        if len(shared_key) > 1:
            shared_key, shared_value = shared_key[now.which], shared_value[now.which]
    one = len(shared_key) == 1  # read by all rows at once; no copy is made for every variant
    # The query heads of a group lie side by side and read the same keys: one product serves them all.
    query = query.reshape(n_heads, -1, n_rows, width)
    apart = now.by_variant(query)
    if one:
        there = (query.reshape(n_heads, -1, width) @ shared_key[0].transpose(1, 2)).unflatten(1, (-1, n_rows))
    else:
        there = now.in_rows(apart @ shared_key.transpose(2, 3))
    here = now.in_rows(apart @ key.transpose(2, 3))
    logits = attention.capped(torch.cat([there, here], dim=3))
    gone = dead if now.everyone else dead[now.variant]
    logits[..., :n_context].masked_fill_(gone.transpose(0, 1)[:, None], -torch.inf)
    unseen = now.unseen[attention.window]
    logits[..., n_context + n_own - unseen.shape[1] :].masked_fill_(unseen, -torch.inf)
    weights = logits.softmax(dim=3, dtype=torch.float32).to(query.dtype)
    there, here = weights.split([n_context, n_own], dim=3)
    read = now.in_rows(now.by_variant(here) @ value)
    if one:
        far = (there.reshape(n_heads, -1, n_context) @ shared_value[0]).unflatten(1, (-1, n_rows))
    else:
        far = now.in_rows(now.by_variant(there) @ shared_value)
    return (far + read).reshape(n_query_heads, n_rows, width).transpose(0, 1)
