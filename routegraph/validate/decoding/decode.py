"""Decoding under eviction: all (policy, ratio) variants of one prompt in one batch, by masks on a shared cache.

A press drops cache rows once the context is prefilled, and positions go on from the context's length as if
nothing were gone. Masking the dropped rows from the question on is therefore the same, and any number of
variants can read one cache. Presses that move what they keep (key rerotation) or merge rows are not covered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.trace import Trace
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.models.attention import Attention, attending, attention_of
from routegraph.validate.models.head import flat_head
from routegraph.validate.models.load import Loaded, quiet
from routegraph.validate.presses import prefill

Ids = NDArray[np.int64]
Kept = NDArray[np.bool_]

#: Bytes that the variants decoded at one time may take together, beside the model and the shared cache.
MEMORY = 512 * 2**20

_ATTENTION = "routegraph_shared_cache"


@dataclass(frozen=True, eq=False)
class Decoded:
    """What each variant answered.

    Attributes
    ----------
    token_ids : tuple of int64[n_new]
        Tokens of each variant's reply, up to and with the one that ends it.
    texts : tuple of str
        The replies without special tokens.
    logits : float32[n_variants, n_logits, n_vocabulary]
        Logits of the first steps; NaN behind the end of a reply.
    cut : bool[n_variants]
        Whether a reply was still going on when it reached the greatest length.
    """

    token_ids: tuple[Ids, ...]
    texts: tuple[str, ...]
    logits: NDArray[np.float32]
    cut: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scored:
    """How likely each variant finds a given answer.

    Attributes
    ----------
    log_probabilities : float64[n_variants, n_answer]
        Natural logarithm of each answer token's probability, given the answer up to there.
    margin : float64[n_variants]
        Logit of the first answer token minus the largest of all others.
    says : bool[n_variants]
        Whether greedy decoding gives this very answer.
    """

    log_probabilities: NDArray[np.float64]
    margin: NDArray[np.float64]
    says: NDArray[np.bool_]

    @property
    def log_probability(self) -> NDArray[np.float64]:
        """Logarithm of the whole answer's probability, float64[n_variants]."""
        return np.asarray(self.log_probabilities.sum(axis=1))


def variants(
    trace: Trace, names: Sequence[str], ratios: Sequence[float], scorer: str | None = None
) -> tuple[list[tuple[str, float]], Kept]:
    """Return every (policy, ratio) and what it keeps of a trace's rows.

    Parameters
    ----------
    trace : Trace
        With the scores that the policies go by.
    names : sequence of str
        Methods by name, see `Method.of_scores`.
    ratios : sequence of float
        Compression ratios in [0, 1).
    scorer : str, optional
        Whose scores a policy goes by that is a cut alone; Expected Attention's by default.

    Returns
    -------
    labels : list of (policy, ratio)
        Policies outermost.
    kept : bool[n_variants, n_layers, n_kv_heads, n_context]

    Raises
    ------
    ValueError
        If a policy is unknown, a ratio outside [0, 1), or the trace lacks the scores.
    """
    labels = [(name, ratio) for name in names for ratio in ratios]
    kept = [
        survival.alive(ratio)
        for name in names
        for survival, ratio in zip(
            Eviction.of(Method.of_scores(trace, name, scorer), trace).survivals(ratios), ratios, strict=True
        )
    ]
    return labels, np.array(kept)


def decode(
    model: Loaded,
    context: Any,
    question: ArrayLike,
    kept: Kept,
    max_new_tokens: int = 16,
    *,
    n_logits: int = 1,
    memory: int = MEMORY,
    stop: str = "",
    read_as: Callable[[Any, Kept], Any] | None = None,
) -> Decoded:
    """Answer a question under every variant of an evicted cache, greedily and in one batch.

    A row is read by the question and what is generated after it only where a variant keeps it. These later
    rows are never evicted. Each variant stops at the model's end-of-sequence token.

    Parameters
    ----------
    model : Loaded
    context : int[n_context] or cache
        Context tokens, or the cache that `prefill.prefill` returned for them; it is not changed. Where the
        eviction is to act on the question, too, the caller counts it as context.
    question : int[n_question]
        Tokens after the context, at positions n_context and on: `prompts.tokens.tokenise` gives both.
    kept : bool[n_variants, n_layers, n_kv_heads, n_context]
        Which cache rows each variant can read.
    max_new_tokens : int
        Length of the longest reply.
    n_logits : int
        Steps of which to return the logits.
    memory : int
        Bytes the variants decoded at a time may take (at least one always is): see `bytes_per_variant`.
    stop : str
        Text before which a reply ends, though the tokens that hold it are still told; none by default.
    read_as : callable, optional
        Called with the cache and the `kept` of a batch; returns what that batch reads in the cache's place, with layers
        of keys and values [n_variants, n_kv_heads, n_context, head_dim].

    Returns
    -------
    Decoded

    Raises
    ------
    ValueError
        If there is no question, nothing to generate, more tokens than the model has positions for, or
        `kept` does not fit the model and the context.

    Notes
    -----
    Text and logits are those of kvpress's pipeline up to the rounding of float32, with one exception: where the
    very first token ends the reply, kvpress goes on.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    asked = np.asarray(question)
    cache = _checked_cache(model, context, asked, kept, max_new_tokens)
    n_logits = min(max(n_logits, 0), max_new_tokens)
    size = _batch_size(model, kept, len(asked), max_new_tokens, n_logits, memory, own=read_as is not None)
    parts = []
    for some in (kept[start : start + size] for start in range(0, len(kept), size)):
        read = cache if read_as is None else read_as(cache, some)
        parts.append(_greedy(model, read, asked, some, max_new_tokens, n_logits, stop))
    replies = tuple(reply for part in parts for reply in part[0])
    texts = tuple(_text(model, reply) for reply in replies)
    if stop:
        texts = tuple(text.partition(stop)[0] for text in texts)
    logits, cut = (np.concatenate([part[k] for part in parts]) for k in (1, 2))
    return Decoded(replies, texts, logits, cut)


def score(
    model: Loaded, context: Any, question: ArrayLike, answer: ArrayLike, kept: Kept, *, memory: int = MEMORY
) -> Scored:
    """Return how likely every variant of an evicted cache finds an answer, in one pass over its tokens.

    Parameters
    ----------
    model, context, question, kept, memory
        As in `decode`.
    answer : int[n_answer]
        Tokens of the answer.

    Raises
    ------
    ValueError
        As `decode` does; if there is no answer.
    """
    asked, given = np.asarray(question), np.asarray(answer)
    if given.size == 0:
        raise ValueError("there is no answer to score: it has no tokens")
    cache = _checked_cache(model, context, asked, kept, len(given))
    forced = np.concatenate([asked, given[:-1]])
    size = _batch_size(model, kept, len(forced), 0, 2 * len(given), memory)
    import torch

    parts = []
    for start in range(0, len(kept), size):
        with torch.no_grad(), _shared_cache(model, cache, kept[start : start + size]) as step:
            logits = step(np.tile(forced, (len(kept[start : start + size]), 1)), len(given))
        wanted = torch.from_numpy(given).to(logits.device)[None, :, None].expand(len(logits), -1, 1)
        own = logits.gather(2, wanted)[..., 0]
        likely = own - logits.logsumexp(dim=2)
        says = (logits.argmax(dim=2) == wanted[..., 0]).all(dim=1)
        others = logits[:, 0].scatter(1, wanted[:, 0], -torch.inf).amax(dim=1)
        parts.append([part.cpu().numpy() for part in (likely.double(), (own[:, 0] - others).double(), says)])
    return Scored(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def bytes_per_variant(
    model: Loaded, n_context: int, n_question: int, max_new_tokens: int, n_logits: int = 1
) -> int:
    """Return about how many bytes each variant adds to a decode: an estimate from above.

    Counted are its masks; its own keys and values, twice, since they are copied to grow; attention scores and
    activations of the question, which is the longest pass; and logits.
    """
    config = model.model.config
    itemsize, n_tail = model.model.dtype.itemsize, n_question + max_new_tokens
    slots = model.n_layers * model.n_heads
    masks = 2 * slots * n_context
    rows = 2 * 2 * slots * n_tail * model.head_dim * itemsize
    scores = 4 * model.n_query_heads * n_question * (n_context + n_tail) * 4
    widths = 6 * config.hidden_size + 4 * config.intermediate_size
    logits = 4 * (n_logits + 3) * config.vocab_size
    return int(masks + rows + scores + n_question * widths * itemsize + logits)


def _batch_size(
    model: Loaded, kept: Kept, n_question: int, n_new: int, n_logits: int, memory: int, own: bool = False
) -> int:
    each = bytes_per_variant(model, kept.shape[3], n_question, n_new, n_logits)
    if own:  # keys and values of the context, and what they are made from
        each += 2 * 2 * kept[0].size * model.head_dim * model.model.dtype.itemsize
    return max(1, int(memory) // each)


def _greedy(
    model: Loaded, cache: Any, question: Ids, kept: Kept, max_new_tokens: int, n_logits: int, stop: str
) -> tuple[list[Ids], NDArray[np.float32], NDArray[np.bool_]]:
    """Decode one batch of variants: their replies, the logits of the first steps, and which were cut."""
    import torch

    ends = _end_tokens(model)
    replies: list[list[int]] = [[] for _ in kept]
    going = np.ones(len(kept), dtype=bool)
    first = np.full((len(kept), n_logits, model.model.config.vocab_size), np.nan, dtype=np.float32)
    ids = np.tile(question, (len(kept), 1))
    with torch.no_grad(), _shared_cache(model, cache, kept) as step:
        for number in range(max_new_tokens):
            logits = step(ids, 1)[:, 0]
            if number < n_logits:
                first[going, number] = logits.cpu().numpy()[going]
            chosen = logits.argmax(dim=1).cpu().numpy()
            for variant in np.flatnonzero(going):
                replies[variant].append(int(chosen[variant]))
            going &= ~np.isin(chosen, ends)
            if stop:
                going[going] = [stop not in _text(model, replies[one]) for one in np.flatnonzero(going)]
            if not going.any():
                break
            ids = chosen[:, None]
    return [np.array(reply, dtype=np.int64) for reply in replies], first, going


def _text(model: Loaded, reply: Any) -> str:
    """Return a reply without special tokens."""
    with quiet():
        return str(model.tokenizer.decode(reply, skip_special_tokens=True))


@contextmanager
def _shared_cache(model: Loaded, cache: Any, kept: Kept) -> Iterator[Any]:
    """Let a batch of variants read one cache, each its own rows of it; the model is put back afterwards.

    Yields ``step(ids[n_variants, n], n_logits)``, which appends rows to the variants' own part of the cache and
    returns the logits of the last `n_logits`, float32[n_variants, n_logits, n_vocabulary].
    """
    import torch
    from transformers import DynamicCache

    network = model.model
    dead = torch.from_numpy(~kept).to(network.device)
    layers = [attention_of(module) for module in prefill.attention_modules(network)]
    own = DynamicCache()

    def attention(
        module: Any, query: Any, key: Any, value: Any, _mask: Any, scaling: float, **more: Any
    ) -> tuple[Any, None]:
        known = layers[module.layer_idx]
        told = {"scaling": known.scaling, "sliding_window": known.window or None, "softcap": known.softcap}
        for name, setting in {"scaling": scaling, **more}.items():
            if name in (*told, "s_aux") and setting is not None and setting != told.get(name):
                raise ValueError(f"decoding under eviction does not know attention with {name!r} here")
        shared = cache.layers[module.layer_idx]
        evicted = dead[:, module.layer_idx]
        return _attend(query, key, value, shared.keys, shared.values, evicted, known), None

    def step(ids: Ids, n_logits: int) -> Any:
        start = kept.shape[3] + own.get_seq_length()
        return network(
            torch.from_numpy(ids).to(network.device),
            past_key_values=own,
            position_ids=torch.arange(start, start + ids.shape[1], device=network.device)[None],
            use_cache=True,
            logits_to_keep=n_logits,
        ).logits.float()

    with flat_head(network), attending(network, _ATTENTION, attention):
        yield step


def _attend(
    query: Any, key: Any, value: Any, shared_key: Any, shared_value: Any, dead: Any, attention: Attention
) -> Any:
    """Attend from the variants' own rows to the shared rows each keeps, and causally to their own.

    query [v, query heads, q, d]; key, value [v, KV heads, t, d], of which the last q are the query's own rows;
    shared_key, shared_value [v or 1, KV heads, n, d]; dead bool[v, KV heads, n]. Returns [v, q, query heads, d].
    """
    import torch

    n_variants, n_query_heads, n_query, width = query.shape
    n_heads, n_own = key.shape[1:3]
    n_context = shared_key.shape[2]
    # The query heads of a group lie side by side and read the same keys: one product serves them all.
    query = query.reshape(n_variants, n_heads, -1, width)
    one = len(shared_key) == 1  # of which no copy is made for every variant
    there = (
        torch.einsum("vhqd,hnd->vhqn", query, shared_key[0]) if one else query @ shared_key.transpose(2, 3)
    )
    logits = attention.capped(torch.cat([there, query @ key.transpose(2, 3)], dim=3))
    logits[..., :n_context].masked_fill_(dead[:, :, None], -torch.inf)
    position = torch.arange(n_context + n_own, device=query.device)
    first = 0 if attention.window else n_context  # without a window, all of the context is seen
    unseen = attention.hidden(position[-n_query:], position[first:])
    logits[..., first:].masked_fill_(unseen.repeat(n_query_heads // n_heads, 1), -torch.inf)
    weights = logits.softmax(dim=3, dtype=torch.float32).to(query.dtype)
    there, here = weights.split([n_context, n_own], dim=3)
    read = torch.einsum("vhqn,hnd->vhqd", there, shared_value[0]) if one else there @ shared_value
    read = read + here @ value
    return read.reshape(n_variants, n_query_heads, n_query, width).transpose(1, 2).contiguous()


def _end_tokens(model: Loaded) -> list[int]:
    """Return the tokens that end a reply, as the model's generation settings name them."""
    ends = model.model.generation_config.eos_token_id
    return [] if ends is None else list(np.atleast_1d(ends))


def _checked_cache(model: Loaded, context: Any, question: NDArray[Any], kept: Kept, n_new: int) -> Any:
    """Return the cache of a context, or raise ValueError where what is asked does not fit together."""
    import torch

    if question.ndim != 1 or question.size == 0:
        raise ValueError("the question must be a list of one or more tokens")
    ready = hasattr(context, "layers")
    n_context = int(context.layers[0].keys.shape[2]) if ready else np.asarray(context).size
    if n_context == 0:
        raise ValueError("the context has no tokens")
    shape = (model.n_layers, model.n_heads, n_context)
    array = np.asarray(kept)
    if array.dtype != bool or array.ndim != 4 or array.shape[0] == 0 or array.shape[1:] != shape:
        raise ValueError(
            f"kept must be bool[variants, {', '.join(map(str, shape))}] (layers, KV heads, context rows) "
            f"with at least one variant, got {array.dtype}{list(array.shape)}"
        )
    total = n_context + len(question) + n_new
    if total > model.max_context:
        raise ValueError(
            f"context, question and answer have {total} tokens; model {model.name!r} was made for "
            f"{model.max_context} at most"
        )
    if not ready:
        ids = torch.from_numpy(np.asarray(context, dtype=np.int64)).reshape(1, -1)
        return prefill.prefill(model.model, ids)
    if any(layer.keys.shape[:3] != (1, *shape[1:]) for layer in context.layers):
        raise ValueError("the cache must hold one context, and all of its rows in every layer")
    return context
