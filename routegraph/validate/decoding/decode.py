"""Decoding under eviction: all (policy, ratio) variants of one prompt in one batch, by masks on a shared cache.

How they read it is in `shared_cache`, how they write several tokens a pass in `speculate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.trace import Trace
from routegraph.validate.decoding.read_kept import by_kernel
from routegraph.validate.decoding.shared_cache import Chunks, Kept, shared_cache
from routegraph.validate.decoding.speculate import ROWS, Reply, Speaker
from routegraph.validate.eviction import Eviction, Method
from routegraph.validate.models.load import Loaded, quiet
from routegraph.validate.presses import prefill

Ids = NDArray[np.int64]

#: Bytes that the variants decoded at one time may take together, beside the model and the shared cache.
MEMORY = 512 * 2**20


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
    speculate: bool = True,
    guesses: Sequence[ArrayLike] = (),
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
    speculate : bool
        Whether replies are guessed a few tokens ahead, from each other, and the guesses verified in one pass; False:
        one token a pass, as always at fewer bits than 32. It changes the time only: see the notes.
    guesses : sequence of int[...], optional
        Replies that some variants may give, such as those of the same question asked otherwise.

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

    A guess is never taken for an answer: every token is the model's most likely one in its place. A reply with two
    tokens so nearly equally likely that the size of a pass could decide (`speculate.TIE`) is written again by itself,
    one token a pass. At fewer bits than 32 such ties are too many, and nothing is guessed.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    asked = np.asarray(question)
    cache = _checked_cache(model, context, asked, kept, max_new_tokens)
    others = [np.asarray(guess, dtype=np.int64).ravel() for guess in guesses]
    n_logits = min(max(n_logits, 0), max_new_tokens)
    ends = end_tokens(model)

    def ended(reply: list[int]) -> bool:
        return reply[-1] in ends or (bool(stop) and stop in text_of(model, np.array(reply)))

    size = _batch_size(model, kept, len(asked), max_new_tokens, n_logits, memory, read_as is not None)
    replies: list[Reply] = []
    logits: list[NDArray[np.float32]] = []
    import torch

    for some in (kept[start : start + size] for start in range(0, len(kept), size)):
        read = cache if read_as is None else read_as(cache, some)
        with torch.no_grad(), shared_cache(model, read, some, len(asked) + max_new_tokens) as step:
            speaker = Speaker(step, asked, max_new_tokens, ended, n_logits, others)
            made, first = speaker.replies(len(some), speculate and model.model.dtype.itemsize >= 4)
        replies += made
        logits.append(first)
        others += [np.array(reply.tokens) for reply in made]  # the next batch may say the same
    token_ids = tuple(np.array(reply.tokens, dtype=np.int64) for reply in replies)
    texts = tuple(
        text_of(model, reply).partition(stop)[0] if stop else text_of(model, reply) for reply in token_ids
    )
    return Decoded(token_ids, texts, np.concatenate(logits), np.array([not reply.ended for reply in replies]))


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
    for some in (kept[start : start + size] for start in range(0, len(kept), size)):
        with torch.no_grad(), shared_cache(model, cache, some, len(forced)) as step:
            chunks = Chunks.of([(number, 0, forced) for number in range(len(some))])
            logits = step(chunks, len(given)).unflatten(0, (len(some), -1))
        wanted = torch.from_numpy(given).to(logits.device)[None, :, None].expand(len(logits), -1, 1)
        own = logits.gather(2, wanted)[..., 0]
        likely = own - logits.logsumexp(dim=2)
        says = (logits.argmax(dim=2) == wanted[..., 0]).all(dim=1)
        others = logits[:, 0].scatter(1, wanted[:, 0], -torch.inf).amax(dim=1)
        parts.append([part.cpu().numpy() for part in (likely.double(), (own[:, 0] - others).double(), says)])
    return Scored(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def bytes_per_variant(
    model: Loaded,
    n_context: int,
    n_question: int,
    max_new_tokens: int,
    n_logits: int = 1,
    apart: bool = False,
) -> int:
    """Return about how many bytes each variant adds to a decode: an estimate from above.

    Counted are its masks; its own keys and values, twice, since those of the variants that go on are copied; attention
    scores, unless a kernel reads them block by block, and activations of the question or of a reply with a draft,
    whichever is longer; and logits. With `apart`, where each variant reads a cache of its own, the context's keys and
    values and what they are made from, too.
    """
    config = model.model.config
    itemsize, n_tail = model.model.dtype.itemsize, n_question + max_new_tokens
    drafted = min(ROWS, max_new_tokens)
    n_rows = max(n_question, drafted)
    slots = model.n_layers * model.n_heads
    masks = 2 * slots * n_context
    rows = 2 * 2 * slots * (n_tail + n_context * apart) * model.head_dim * itemsize
    blocks = by_kernel(model.model) and not apart
    scores = 0 if blocks else 4 * model.n_query_heads * n_rows * (n_context + n_tail) * 4
    widths = 6 * config.hidden_size + 4 * config.intermediate_size
    logits = 4 * (n_logits + 3 * max(drafted, 1)) * config.vocab_size
    return int(masks + rows + scores + n_rows * widths * itemsize + logits)


def _batch_size(
    model: Loaded, kept: Kept, n_question: int, n_new: int, n_logits: int, memory: int, apart: bool = False
) -> int:
    return max(1, int(memory) // bytes_per_variant(model, kept.shape[3], n_question, n_new, n_logits, apart))


def text_of(model: Loaded, reply: Any) -> str:
    """Return a reply without special tokens."""
    with quiet():
        return str(model.tokenizer.decode(reply, skip_special_tokens=True))


def end_tokens(model: Loaded) -> list[int]:
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
