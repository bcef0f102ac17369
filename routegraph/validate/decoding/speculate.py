"""Greedy decoding of many variants with drafts: guessed tokens are verified, several of each variant in one pass.

A token costs a pass in which all weights are read, nearly the same for one row as for dozens. So every variant that
is still going gives its last token and, behind it, a draft of what may follow; the pass tells for every row which token
the model says next, and what agrees with the draft is accepted. Nothing but the model's own choice ever is: a draft
decides how many passes there are, not what is said.

Drafts come from two places. A reply that starts as this one does and has got further tells what probably follows:
most variants of one prompt say the same for long (Leviathan et al. 2023, with another variant in the place of the small
model). And a reply often repeats what it said, or what another one did: what followed there on the same last tokens
(prompt lookup, Saxena 2023) is tried by one of the variants whose replies are equal up to here; the others follow in
the next pass, with what that one has found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.decoding.shared_cache import Chunks

Ids = NDArray[np.int64]
Guess = tuple[int, list[int]]

#: Rows a pass over replies may have, for each variant of the batch: one that must be, the others drafts.
ROWS = 8
#: Last tokens that must have stood somewhere before for what followed there to be tried; longer matches first.
MATCHED = (3, 2)
#: Two logits are a tie where they differ by no more than this share of the larger one: 128 units of float32's last
#: place. What rounding differs by between passes of other shapes is a tenth of it.
TIE = 2.0**-16
#: Stands between texts that do not follow on each other.
_GAP = -1


@dataclass
class Reply:
    """The reply of one variant while it is written.

    Attributes
    ----------
    tokens : list of int
        What is accepted.
    ended : bool
        Whether it came to its end.
    going : bool
        Whether there is more to come: it has not ended, nor reached the greatest length.
    tied : bool
        Whether a token was chosen, in a pass over drafts, of two that the model finds nearly equally likely.
    tried : int
        Tokens to try next of what is looked up: twice as many as were right the last time, and one.
    """

    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    going: bool = True
    tied: bool = False
    tried: int = 3


@dataclass(frozen=True, eq=False)
class Speaker:
    """What writes replies.

    Attributes
    ----------
    step : callable
        Runs chunks of tokens; see `shared_cache.shared_cache`.
    question : int64[n_question]
    longest : int
        Tokens of the longest reply.
    ends : callable
        Whether a list of tokens is a whole reply.
    n_logits : int
        Steps of which the logits are kept.
    others : sequence of int64[...]
        Replies of other variants, which these may be like.
    """

    step: Any
    question: Ids
    longest: int
    ends: Callable[[list[int]], bool]
    n_logits: int
    others: Sequence[Ids] = ()

    def replies(self, n_variants: int, speculate: bool) -> tuple[list[Reply], NDArray[np.float32]]:
        """Return all replies, and the logits of their first steps, float32[n_variants, n_logits, n_vocabulary].

        Parameters
        ----------
        n_variants : int
        speculate : bool
            False: one token a pass. Else a reply with a tie is written again, by itself and one token a pass, so that
            the size of a pass does not decide it.
        """
        replies = [Reply() for _ in range(n_variants)]
        logits = self.step(Chunks.of([(number, 0, self.question) for number in range(n_variants)]), 1)
        first = np.full((n_variants, self.n_logits, logits.shape[1]), np.nan, dtype=np.float32)
        self._accept(replies, [(number, []) for number in range(n_variants)], logits, first)
        while going := [number for number, reply in enumerate(replies) if reply.going]:
            guesses = self._guesses(replies, going) if speculate else [(number, []) for number in going]
            self._run(replies, guesses, first)
        for number, reply in enumerate(replies):
            if reply.tied:
                replies[number] = again = Reply(reply.tokens[:1])
                while again.going:
                    self._run(replies, [(number, [])], first)
        return replies, first

    def _run(self, replies: list[Reply], guesses: list[Guess], first: NDArray[np.float32]) -> None:
        """Let some variants go on by one pass, each with a draft of what may follow."""
        before = len(self.question) - 1
        chunks = [
            (number, before + len(replies[number].tokens), [replies[number].tokens[-1], *draft])
            for number, draft in guesses
        ]
        self._accept(
            replies, guesses, self.step(Chunks.of(chunks)), first, bool(sum(len(d) for _, d in guesses))
        )

    def _accept(
        self,
        replies: list[Reply],
        guesses: list[Guess],
        logits: Any,
        first: NDArray[np.float32],
        drafted: bool = False,
    ) -> None:
        """Take what the model says next behind every row, as far as the rows before it are what it said."""
        chosen = logits.argmax(dim=1).tolist()
        two = logits.topk(2, dim=1).values
        tied = (
            (two[:, 0] - two[:, 1] <= TIE * two.abs().amax(dim=1)).tolist()
            if drafted
            else [False] * len(chosen)
        )
        row = 0
        for number, draft in guesses:
            reply = replies[number]
            before = len(reply.tokens)
            for place, token in enumerate(chosen[row : row + 1 + len(draft)]):
                if len(reply.tokens) < self.n_logits:
                    first[number, len(reply.tokens)] = logits[row + place].cpu().numpy()
                reply.tokens.append(token)
                reply.tied |= tied[row + place]
                reply.ended = self.ends(reply.tokens)
                reply.going = not reply.ended and len(reply.tokens) < self.longest
                if not reply.going or draft[place : place + 1] != [token]:
                    break
            if draft:
                reply.tried = 2 * (len(reply.tokens) - before) - 1
            row += 1 + len(draft)

    def _guesses(self, replies: list[Reply], going: list[int]) -> list[Guess]:
        """Return a draft for every variant that goes on: none, or what another one said next, or what is looked up."""
        drafts: list[list[int]] = []
        looked: set[tuple[int, ...]] = set()
        for number in going:
            tokens = replies[number].tokens
            draft = self._said_next(replies, number)
            if not draft and tuple(tokens) not in looked:
                looked.add(tuple(tokens))
                draft = self._looked_up(replies, number)
            drafts.append(draft[: self.longest - len(tokens) - 1])
        spare = (ROWS - 1) * len(replies)
        most = max(map(len, drafts))
        while sum(min(len(draft), most) for draft in drafts) > spare:
            most -= 1
        return [(number, draft[:most]) for number, draft in zip(going, drafts, strict=True)]

    def _said_next(self, replies: list[Reply], number: int) -> list[int]:
        """Return how the longest reply goes on that starts as this one does, the nearest variant's of equal ones."""
        own = replies[number].tokens
        ahead = [
            (len(other.tokens), -abs(place - number), other.tokens)
            for place, other in enumerate(replies)
            if len(other.tokens) > len(own) and other.tokens[: len(own)] == own
        ]
        ahead += [
            (len(other), -len(replies), other.tolist())
            for other in self.others
            if len(other) > len(own) and other[: len(own)].tolist() == own
        ]
        return max(ahead)[2][len(own) :] if ahead else []

    def _looked_up(self, replies: list[Reply], number: int) -> list[int]:
        """Return what followed, in the question or in a reply, on this reply's last tokens, where they stood last."""
        own = [*self.question.tolist(), *replies[number].tokens]
        parts: list[Any] = []
        for other in [*self.others, *(reply.tokens for reply in replies)]:
            parts += [other, [_GAP]]
        text = np.concatenate([np.asarray(part, dtype=np.int64) for part in [*parts, own]])
        for length in MATCHED:
            tail = own[-length:]
            found = np.ones(len(text) - length, dtype=bool)
            for place, token in enumerate(tail):
                found &= text[place : place + len(found)] == token
            at = np.flatnonzero(found)
            if len(tail) == length and len(at) and text[at[-1] + length] != _GAP:
                after = text[at[-1] + length :]
                # What repeats itself will go on to: a reply in a loop is longer than one turn of it.
                after = np.resize(after, replies[number].tried)
                gaps = np.flatnonzero(after == _GAP)
                return [int(token) for token in after[: gaps[0] if len(gaps) else None]]
        return []
