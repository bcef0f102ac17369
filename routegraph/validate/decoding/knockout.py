"""Knockout: mask chosen cache rows and see whether the answer goes; so it is found what it is read from.

The answer need not be read from the answer token: later tokens (the full stop of the sentence, say) may have
taken it in while the context was prefilled. So rows are masked from the question on, as eviction does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.survival import check_positions
from routegraph.validate.decoding.decode import MEMORY, score
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill
from routegraph.validate.prompts.asking import PLAIN, Asks
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.prompts.tokens import Asked, tokenise, tokens_in

Positions = NDArray[np.int64]

#: Where the rows of a group are masked; see `knockout`.
PLACES = ("all", "layer", "from", "slot")

#: Variants whose masks are laid out at a time.
_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Knockout:
    """How the answer fares with each group of rows masked.

    Attributes
    ----------
    groups : tuple of int64[...]
        Positions of the masked tokens.
    log_probability, margin : float
        With nothing masked: logarithm of the answer's probability; logit of its first token minus the largest
        other.
    says : bool
        Whether greedy decoding gives the answer with nothing masked.
    fall : float64[n_groups, ...]
        How far the logarithm of the answer's probability falls. The axes behind the groups are the places:
        none ("all"), n_layers ("layer", "from"), or n_layers, n_kv_heads ("slot").
    margins : float64[n_groups, ...]
        The margin that is left.
    still_says : bool[n_groups, ...]
        Whether greedy decoding still gives the answer.
    """

    groups: tuple[Positions, ...]
    log_probability: float
    margin: float
    says: bool
    fall: NDArray[np.float64]
    margins: NDArray[np.float64]
    still_says: NDArray[np.bool_]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which knockouts take the answer away, bool[n_groups, ...]; none where it was not given to begin with."""
        return self.says & ~self.still_says


@dataclass(frozen=True, eq=False)
class Carriers:
    """The tokens from which an answer is read, found by knocking out one at a time.

    Attributes
    ----------
    tokens : int64[k]
        Positions of the k tokens whose knockout moves the answer most, the first one most of all.
    each : Knockout
        Every single token of the context masked, in all slots.
    without : Knockout
        The first 1, 2, ..., k of `tokens` masked together: are they needed?
    only : Knockout
        All but the sinks and the first 1, 2, ..., k of `tokens` masked: are they enough?
    """

    tokens: Positions
    each: Knockout
    without: Knockout
    only: Knockout


def blocks(n_context: int, width: int = 1) -> list[Positions]:
    """Return the positions 0..n_context-1 in blocks of `width` (the last may be shorter), as groups to knock out.

    Raises
    ------
    ValueError
        If the context or the width is below 1.
    """
    if n_context < 1 or width < 1:
        raise ValueError(f"context and width must be at least 1, got {n_context} and {width}")
    return [np.arange(start, min(start + width, n_context)) for start in range(0, n_context, width)]


def evidence_groups(model: Loaded, prompt: Prompt) -> list[Positions]:
    """Return the tokens of each evidence span of a prompt, as groups to knock out: whole facts.

    Raises
    ------
    ValueError
        If the prompt asks nothing or names no evidence.
    """
    asked = tokenise(model, prompt)
    if not prompt.evidence:
        raise ValueError(f"prompt {prompt.id!r} names no evidence")
    return [tokens_in(prompt.context, asked.offsets, [span]) for span in prompt.evidence]


def knockout(
    model: Loaded,
    prompt: Prompt,
    groups: Sequence[ArrayLike],
    places: str = "all",
    *,
    answer: ArrayLike | None = None,
    memory: int = MEMORY,
) -> Knockout:
    """Mask each group of context tokens from the question on, and measure what becomes of the answer.

    Parameters
    ----------
    model : Loaded
    prompt : Prompt
        With a question or an answer prefix, and an answer.
    groups : sequence of int[...]
        Positions of the tokens to mask, group by group.
    places : {"all", "layer", "from", "slot"}
        Mask them in all slots; in one layer only, each layer in its turn; from one layer on up to the last; in one
        (layer, KV head) only. Where the fall of "from" sets in or ends, the route leaves the tokens.
    answer : int[n_answer], optional
        Tokens to follow in place of the prompt's answer: `Decoded.token_ids` of a reply, say.
    memory : int
        See `decode`.

    Returns
    -------
    Knockout

    Raises
    ------
    ValueError
        If the places are unknown, a token lies outside the context, there is no group, no question or no
        answer, or the prompt is too long for the model.
    """
    return _knockout(model, *_prefilled(model, prompt, answer), groups, places, memory)


def carriers(
    model: Loaded,
    prompt: Prompt,
    limit: int = 8,
    *,
    sinks: int = 1,
    answer: ArrayLike | None = None,
    asks: Asks = PLAIN,
    memory: int = MEMORY,
) -> Carriers:
    """Find the tokens an answer is read from: those whose knockout, one at a time, moves it most.

    One token may stand in for another, so that neither alone is missed; then masking more of them together tells.

    Parameters
    ----------
    model, prompt, answer, memory
        As in `knockout`.
    limit : int
        How many tokens to name.
    sinks : int
        First rows of the context, which are not named: without them attention breaks down, whatever is asked.
    asks : Asks
        How the prompt is put to the model.

    Raises
    ------
    ValueError
        As `knockout` does; if limit or sinks are out of range.
    """
    asked, cache, given = _prefilled(model, prompt, answer, asks)
    n = len(asked.context)
    check_limit(limit, n, sinks)
    each = _knockout(model, asked, cache, given, blocks(n), "all", memory)
    tokens = sinks + np.argsort(-each.fall[sinks:], kind="stable")[:limit]
    first = [tokens[: k + 1] for k in range(limit)]
    others = [np.setdiff1d(np.arange(sinks, n), some) for some in first]
    without, only = (
        _knockout(model, asked, cache, given, groups, "all", memory) for groups in (first, others)
    )
    return Carriers(tokens, each, without, only)


def check_limit(limit: int, n: int, sinks: int = 1, name: str = "limit") -> None:
    """Raise ValueError, calling the limit by `name`, unless `carriers` can name so many of `n` tokens."""
    if not 0 <= sinks <= n - 2:
        raise ValueError(f"sinks must be in 0..{n - 2} for a context of {n} tokens, got {sinks}")
    if not 1 <= limit < n - sinks:
        raise ValueError(f"{name} must be in 1..{n - sinks - 1}, all tokens but sinks and one, got {limit}")


def _prefilled(
    model: Loaded, prompt: Prompt, answer: ArrayLike | None, asks: Asks = PLAIN
) -> tuple[Asked, Any, Positions]:
    """Return a prompt's tokens, the cache of its context, and the answer to follow."""
    import torch

    asked = tokenise(model, prompt, asks)
    given = asked.answer if answer is None else np.asarray(answer)
    if given.size == 0:
        raise ValueError(f"prompt {prompt.id!r} has no answer to knock out")
    total = len(asked.context) + len(asked.question) + len(given)
    if total > model.max_context:
        raise ValueError(
            f"prompt {prompt.id!r} has {total} tokens with question and answer; model {model.name!r} was made "
            f"for {model.max_context} at most"
        )
    return asked, prefill.prefill(model.model, torch.from_numpy(asked.context)[None]), given


def _knockout(
    model: Loaded,
    asked: Asked,
    cache: Any,
    answer: Positions,
    groups: Sequence[ArrayLike],
    places: str,
    memory: int,
) -> Knockout:
    n = len(asked.context)
    listed = tuple(check_positions(group, n, "token to knock out") for group in groups)
    if not listed:
        raise ValueError("at least one group of tokens to knock out is needed")
    where = _places(places, model.n_layers, model.n_heads)
    shape = (len(listed), *where.shape[:-2])
    where = where.reshape(-1, 1, *where.shape[-2:], 1)
    masked = np.zeros((len(listed), 1, 1, n), dtype=bool)
    for row, group in enumerate(listed):
        masked[row, ..., group] = True

    def scored(kept: NDArray[np.bool_]) -> tuple[NDArray[Any], ...]:
        found = score(model, cache, asked.question, answer, kept, memory=memory)
        return found.log_probability, found.margin, found.says

    whole = scored(np.ones((1, model.n_layers, model.n_heads, n), dtype=bool))
    step = max(1, _AT_ONCE // len(where))
    parts = [
        scored(~(where & masked[start : start + step]).swapaxes(0, 1).reshape(-1, *where.shape[2:4], n))
        for start in range(0, len(listed), step)
    ]
    log_probability, margins, says = (
        np.concatenate(column).reshape(shape) for column in zip(*parts, strict=True)
    )
    return Knockout(
        groups=listed,
        log_probability=float(whole[0][0]),
        margin=float(whole[1][0]),
        says=bool(whole[2][0]),
        fall=whole[0][0] - log_probability,
        margins=margins,
        still_says=says,
    )


def _places(places: str, n_layers: int, n_heads: int) -> NDArray[np.bool_]:
    """Return which slots are masked at each place, bool[..., n_layers, n_heads]."""
    if places not in PLACES:
        raise ValueError(f"unknown places {places!r}; choose from: {', '.join(PLACES)}")
    if places == "all":
        return np.ones((n_layers, n_heads), dtype=bool)
    if places == "slot":
        return np.eye(n_layers * n_heads, dtype=bool).reshape(n_layers, n_heads, n_layers, n_heads)
    square = np.eye(n_layers, dtype=bool) if places == "layer" else np.tri(n_layers, dtype=bool).T
    return np.repeat(square[:, :, None], n_heads, axis=2)
