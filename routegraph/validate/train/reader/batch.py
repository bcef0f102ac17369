"""Many questions over one context as one sequence: each sees the context and itself, none of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.train.reader.form import chat
from routegraph.validate.train.reader.stories import Story

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Packed:
    """A context and the questions about it, one after the other, as tokens.

    Attributes
    ----------
    ids, positions, branch : int64[n]
        Tokens, their places in a text with one question only, and which question they belong to; -1: the context.
    targets : int64[n]
        The token that comes next where it belongs to a reply, else -1.
    """

    ids: Ids
    positions: Ids
    branch: Ids
    targets: Ids

    def mask(self) -> NDArray[np.bool_]:
        """Return who sees whom, bool[n, n]: rows see columns."""
        order = np.arange(len(self.ids))
        shared = (self.branch[None, :] == -1) | (self.branch[None, :] == self.branch[:, None])
        return np.asarray(shared & (order[None, :] <= order[:, None]))


def pack(tokenizer: Any, story: Story) -> Packed:
    """Return a story with all its questions and replies as one sequence.

    A reply is the answer, a full stop, and the token that ends a turn.
    """
    asked = [chat(tokenizer, story.context, one.question) for one in story.asked]
    replies = [
        [*tokenizer.encode(f"{one.answer}.", add_special_tokens=False), tokenizer.eos_token_id]
        for one in story.asked
    ]
    shared = _shared(asked)
    ids, positions, branch = list(asked[0][:shared]), list(range(shared)), [-1] * shared
    targets = [-1] * shared
    for number, (prompt, reply) in enumerate(zip(asked, replies, strict=True)):
        # The last token of a reply predicts nothing.
        own = [*prompt[shared:], *reply[:-1]]
        ids += own
        positions += range(shared, shared + len(own))
        branch += [number] * len(own)
        targets += [*[-1] * (len(own) - len(reply)), *reply]
    return Packed(*(np.array(part, dtype=np.int64) for part in (ids, positions, branch, targets)))


def _shared(asked: list[list[int]]) -> int:
    """Return how many tokens all prompts begin with, less one, so that each has one of its own."""
    least = min(map(len, asked)) - 1
    columns = zip(*(one[:least] for one in asked), strict=True)
    return next((place for place, column in enumerate(columns) if len(set(column)) > 1), least)
