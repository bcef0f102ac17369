"""A real model decodes a reply while its cache is cut to a budget again and again: which row dies at which step.

The order of a step is that of kvpress's ``DecodingPress`` in its pipeline: the context is prefilled and left whole; the
question is the first step; every token of the reply but the last is another. In a step the new rows come into every
slot, their queries attend, and after every `interval`-th step the slot is cut to `budget` rows. What stays keeps its
position: keys are not rotated anew, and later ones go on counting as if nothing were gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.options import check_whole
from routegraph.validate.decoding.decode import MEMORY, Ids, end_tokens, text_of
from routegraph.validate.decoding.written import Cutting, Written
from routegraph.validate.models.attention import attending, attention_of
from routegraph.validate.models.head import flat_head
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses.decoding import Keeping, Seen, keeping
from routegraph.validate.presses.prefill import attention_modules, prefill_tables, rotary
from routegraph.validate.presses.scorers import SCORERS

#: Steps whose states are held at most for a policy, as `hidden_states_buffer_size` of kvpress's DecodingPress.
HELD_STEPS = 256
_ATTENTION = "routegraph_cut_cache"


def write(
    model: Loaded,
    context: ArrayLike,
    question: ArrayLike,
    cuttings: Sequence[Cutting],
    max_new_tokens: int = 64,
    *,
    stop: str = "",
    seed: int = 0,
    memory: int = MEMORY,
) -> list[Written]:
    """Answer a question greedily, once for every way to cut the cache, all of them in one batch.

    Parameters
    ----------
    model : Loaded
        Without sliding windows or capped logits.
    context, question : int[n]
        Tokens.
    cuttings : sequence of Cutting
    max_new_tokens : int
        Length of the longest reply.
    stop : str
        Text before which a reply ends, though the tokens that hold it are still told; none by default.
    seed : int
        Of policies that draw.
    memory : int
        Bytes that the caches of a batch may take (one at least always is decoded).

    Returns
    -------
    list of Written
        In the order of `cuttings`.

    Raises
    ------
    ValueError
        If there is no context, question or cutting, the tokens exceed the model's positions, or the model has layers
        that do not see every row.

    Notes
    -----
    Kept rows and replies are those of kvpress 0.5.5's pipeline with ``DecodingPress(press, interval, budget)``, up to
    ties and the rounding of float32: for knorm, keydiff, tova and expected_attention. As there, a question of `budget`
    tokens or more is cut at once, and the steps to the next cut are counted from it.
    """
    before, asked = np.asarray(context, dtype=np.int64), np.asarray(question, dtype=np.int64)
    check_whole("max_new_tokens", max_new_tokens, low=1)
    if not len(cuttings):
        raise ValueError("at least one way to cut the cache is needed")
    if before.ndim != 1 or not before.size or asked.ndim != 1 or not asked.size:
        raise ValueError("context and question must be lists of one or more tokens")
    check_cuttable(model)
    total = len(before) + len(asked) + max_new_tokens
    if total > model.max_context:
        raise ValueError(
            f"context, question and answer have {total} tokens; model {model.name!r} was made for "
            f"{model.max_context} at most"
        )
    cache, sums = _prefilled(model, before, cuttings)
    each = 2 * 2 * model.n_layers * model.n_heads * total * model.head_dim * model.model.dtype.itemsize
    size = max(1, int(memory) // each)
    written: list[Written] = []
    for start in range(0, len(cuttings), size):
        some = [_Reply(model, one, cache, sums, seed) for one in cuttings[start : start + size]]
        _decode(model, some, asked, max_new_tokens, stop)
        written += [one.written(model, len(asked), max_new_tokens, stop) for one in some]
    return written


def check_cuttable(model: Loaded) -> None:
    """Raise ValueError for a model with layers that do not see every row, or whose attention logits are capped."""
    for module in attention_modules(model.model):
        known = attention_of(module)
        if known.window or known.softcap is not None:
            why = "sliding windows" if known.window else "capped attention"
            raise ValueError(
                f"model {model.name!r} has {why}, and eviction while decoding is measured on models without"
            )


def _prefilled(model: Loaded, context: Ids, cuttings: Sequence[Cutting]) -> tuple[Any, Any]:
    """Return the cache of a context and, where a policy reads them, the sums of attention that its rows got."""
    import torch

    ids = torch.from_numpy(context)[None]
    caches: list[Any] = []
    needed = any(one.budget and keeping(one.policy, one.budget, one.interval).sums for one in cuttings)
    tables = prefill_tables(
        model.model,
        ids,
        {"sums": (SCORERS["observed_attention"](), None)} if needed else {},
        also=lambda module, args, kwargs, output: caches.append(kwargs["past_key_values"]),
    )
    if not needed:
        return caches[0], None
    # The mean over the queries that see a row, times their number.
    sums = tables["sums"] * np.arange(len(context), 0, -1, dtype=np.float32)
    return caches[0], torch.from_numpy(sums).to(model.model.device)


@dataclass(eq=False)
class _Layer:
    """One layer of one reply's cache. Tensors as in `Seen`."""

    keys: Any
    values: Any
    rows: Any
    sums: Any
    queries: Any = None
    hidden: list[Any] = field(default_factory=list)
    waited: int = 0

    def append(self, keys: Any, values: Any, first: int) -> None:
        """Let new rows come, the first of them at a position."""
        import torch

        n_heads, n = keys.shape[1:3]
        come = torch.arange(first, first + n, device=keys.device).expand(n_heads, n)
        self.keys, self.values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        self.rows = torch.cat([self.rows, come], 1)

    def attend(self, query: Any, scaling: float, keeping: Keeping | None) -> Any:
        """Attend from the newest rows to all that are there and not later; returns [1, n_query_heads, n, head_dim]."""
        import torch

        n, here = query.shape[2], self.rows[0]
        mask = (
            None if n == 1 else here <= here[-n:, None]
        )  # only the question is longer, and nothing is gone yet
        if keeping is not None and keeping.n_queries:
            held = query[0] if self.queries is None else torch.cat([self.queries, query[0]], 1)
            self.queries = held[:, -keeping.n_queries :]
        if keeping is not None and keeping.sums:
            grouped = query[0].reshape(len(self.rows), -1, query.shape[3])
            logits = (grouped @ self.keys[0].transpose(1, 2)).float() * scaling
            logits = logits.unflatten(1, (-1, n))
            weights = (logits if mask is None else logits.masked_fill(~mask, -torch.inf)).softmax(-1)
            came = torch.zeros(len(self.rows), n, device=self.sums.device)
            self.sums = torch.cat([self.sums, came], 1) + weights.mean(1).sum(1)
        return torch.nn.functional.scaled_dot_product_attention(
            query, self.keys, self.values, mask, scale=scaling, enable_gqa=True
        )

    def keep(self, worth: Any, budget: int) -> Any:
        """Keep the rows of most worth, of equal ones the earliest; returns the positions of the others."""
        order = worth.sort(dim=1, descending=True, stable=True).indices
        kept, gone = order[:, :budget].sort(dim=1).values, order[:, budget:]
        dead = self.rows.gather(1, gone)
        wide = kept[None, :, :, None].expand(-1, -1, -1, self.keys.shape[3])
        self.keys, self.values = self.keys.gather(2, wide), self.values.gather(2, wide)
        self.rows = self.rows.gather(1, kept)
        if self.sums is not None:
            self.sums = self.sums.gather(1, kept)
        return dead


class _Reply:
    """One reply as it grows: its cache, its tokens, the deaths so far."""

    def __init__(self, model: Loaded, cutting: Cutting, cache: Any, sums: Any, seed: int) -> None:
        import torch

        self.cutting, self.seed = cutting, seed
        self.keeping = keeping(cutting.policy, cutting.budget, cutting.interval) if cutting.budget else None
        if self.keeping is not None:
            self.keeping.prepare(model.model)
        self.n_context = int(cache.layers[0].keys.shape[2])
        rows = torch.arange(self.n_context, device=cache.layers[0].keys.device).expand(model.n_heads, -1)
        own = sums if self.keeping is not None and self.keeping.sums else [None] * model.n_layers
        self.layers = [
            _Layer(layer.keys, layer.values, rows, one) for layer, one in zip(cache.layers, own, strict=True)
        ]
        self.tokens: list[int] = []
        self.going = True
        self.step = 0
        self.deaths: list[tuple[int, int, NDArray[np.int64]]] = []  # layer, step, rows [n_heads, gone]

    def after(self, module: Any, kwargs: Mapping[str, Any], hidden: Any) -> None:
        """Count a step of a layer, and cut it where it is due, as kvpress's DecodingPress does."""
        import torch

        if self.keeping is None:
            return
        layer, budget = self.layers[module.layer_idx], self.cutting.budget
        layer.hidden.append(hidden)
        layer.waited += 1
        if layer.waited >= self.cutting.interval or hidden.shape[1] >= budget:
            if layer.rows.shape[1] > budget:
                seen = Seen(
                    module,
                    {**kwargs, "hidden_states": hidden},
                    torch.cat(layer.hidden, dim=1),
                    layer.keys,
                    layer.values,
                    layer.rows,
                    layer.sums,
                    layer.queries,
                    budget,
                    self.step,
                    self.seed,
                )
                worth = self.keeping.worth(seen)
                if bool(worth.isnan().any()):
                    raise ValueError(f"policy {self.cutting.policy!r} gives rows a worth that is no number")
                self.deaths.append((module.layer_idx, self.step, layer.keep(worth, budget).cpu().numpy()))
            layer.waited = 0
            layer.hidden = []
        layer.hidden = layer.hidden[-HELD_STEPS:]

    def written(self, model: Loaded, n_question: int, max_new_tokens: int, stop: str) -> Written:
        n_prefill = self.n_context + n_question - 1
        shape = (model.n_layers, model.n_heads, n_prefill + self.step)
        death = np.full(shape, self.step + 1, np.int32)
        for layer, step, rows in self.deaths:
            death[layer, np.arange(model.n_heads)[:, None], rows] = step
        tokens = np.array(self.tokens, dtype=np.int64)
        text = text_of(model, tokens)
        return Written(
            tokens,
            text.partition(stop)[0] if stop else text,
            self.going,
            death,
            self.n_context,
            n_prefill,
        )


def _decode(model: Loaded, replies: Sequence[_Reply], question: Ids, max_new_tokens: int, stop: str) -> None:
    """Let replies grow to their ends; one that has ended leaves the batch."""
    import torch

    ends, going = end_tokens(model), list(replies)
    ids, position = np.tile(question, (len(going), 1)), replies[0].n_context
    with torch.no_grad(), _cut_caches(model) as step:
        for _ in range(max_new_tokens):
            for one in going:
                one.step += 1
            chosen = step(going, ids, position).argmax(dim=1).cpu().numpy()
            for one, token in zip(going, chosen, strict=True):
                one.tokens.append(int(token))
                one.going = token not in ends and not (stop and stop in text_of(model, one.tokens))
            left = np.array([one.going for one in going])
            going = [one for one in going if one.going]
            if not going:
                return
            position += ids.shape[1]
            ids = chosen[left][:, None]


@contextmanager
def _cut_caches(model: Loaded) -> Iterator[Any]:
    """Let each reply of a batch read and cut a cache of its own; the model is put back afterwards.

    Yields ``step(replies, ids[n_replies, n], position)``: the position of the first of the new tokens; it returns the
    logits of the last, float32[n_replies, n_vocabulary].
    """
    import torch

    network = model.model
    batch: list[_Reply] = []
    start = 0

    def attention(
        module: Any, query: Any, key: Any, value: Any, _mask: Any, scaling: float, **_more: Any
    ) -> tuple[Any, None]:
        read = []
        for place, reply in enumerate(batch):
            layer, one = reply.layers[module.layer_idx], slice(place, place + 1)
            layer.append(key[one], value[one], start)
            read.append(layer.attend(query[one], scaling, reply.keeping))
        return torch.cat(read).transpose(1, 2).contiguous(), None

    def hook(module: Any, _args: Any, kwargs: Mapping[str, Any], _output: Any) -> None:
        for place, reply in enumerate(batch):
            reply.after(module, kwargs, kwargs["hidden_states"][place : place + 1])

    def step(replies: Sequence[_Reply], ids: Ids, position: int) -> Any:
        nonlocal start
        batch[:], start = replies, position
        return (
            network(
                torch.from_numpy(ids).to(network.device),
                position_ids=torch.arange(start, start + ids.shape[1], device=network.device)[None],
                use_cache=False,
                logits_to_keep=1,
            )
            .logits[:, -1]
            .float()
        )

    with flat_head(network), rotary(network), attending(network, _ATTENTION, attention), ExitStack() as stack:
        for module in attention_modules(network):
            stack.enter_context(module.register_forward_hook(hook, with_kwargs=True))
        yield step
