"""What a policy of decoding is given: one slot (layer, KV head), and the attention in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Attention:
    """How the attention that policies see is drawn.

    The weight of a row is exp(spread g - decay age + boost): a popularity g, standard normal, a decay with age, and the
    boost of its age. A query gives the rows that its slot still has, its own included, attention in proportion to their
    weights (a softmax). At every step a row keeps its popularity with probability `persistence`, or draws a new one; of
    its variance a share `score_correlation` is the token's own, the same in all slots, and a share `lasting` the row's
    own, and neither is ever drawn anew. So with c and l for these shares the popularities of a row s steps apart are
    correlated by c + l + (1 - c - l) persistence**s, those of one token in two slots by c. Nothing of it depends on
    what was evicted: all policies see the same rows.

    Attributes
    ----------
    spread : float
        Standard deviation of the logarithm of the weights, in [0, 10].
    persistence, score_correlation : float
        In [0, 1].
    decay : float
        What the logarithm of a weight loses a step, in [0, 10].
    lasting : float
        In [0, 1 - score_correlation].
    recency : tuple of (age, boost)
        Boosts from an age on, in steps, to the next; ages rise. Before the first age there is none.
    prompt : (float, float, float) or None
        Spread, persistence and lasting of the prompt's rows, which then are a class of their own: from the first step
        on they have no boost, for what a reply's queries look at in the prompt is not a matter of age. None: rows of
        the prompt are like those of the reply.
    """

    spread: float = 1.0
    persistence: float = 0.998
    decay: float = 0.002
    score_correlation: float = 0.0
    lasting: float = 0.0
    recency: tuple[tuple[int, float], ...] = ()
    prompt: tuple[float, float, float] | None = None

    @property
    def model(self) -> tuple[tuple[float, ...], NDArray[np.int64], NDArray[np.float64]]:
        """What the kernels take: the numbers that `kernels.popularity` names, ages, boosts."""
        own = (self.spread, self.persistence, self.lasting)
        apart = (*(self.prompt or own), self.prompt is not None)
        numbers = (*own, *apart, self.score_correlation, self.decay)
        ages = np.array([age for age, _ in self.recency], dtype=np.int64)
        boosts = np.array([boost for _, boost in self.recency], dtype=np.float64)
        return tuple(map(float, numbers)), ages, boosts


@dataclass(frozen=True)
class Slot:
    """One slot (layer, KV head) of one run.

    Rows are numbered as they come: those of the prefill 0..n_prefill - 1, then one a step; row i comes at step
    i - n_prefill + 1.

    Attributes
    ----------
    key : uint64
        Names the random numbers of the run.
    layer, head : int
        Layers from 1, heads from 0; with the key they name the random numbers of the slot.
    n_prefill, n_steps : int
        Rows that are there before step 1; steps.
    budget, interval : int
        Rows that a cut leaves; steps from cut to cut.
    attention : Attention
    """

    key: np.uint64
    layer: int
    head: int
    n_prefill: int
    n_steps: int
    budget: int
    interval: int
    attention: Attention

    @property
    def n_rows(self) -> int:
        """Rows that ever come."""
        return self.n_prefill + self.n_steps

    @property
    def never(self) -> int:
        """The step at which a row dies that is never evicted: one beyond the last."""
        return self.n_steps + 1

    def capacity(self) -> NDArray[np.int64]:
        """Return the most rows that may be left once each row has come, int64[n_rows]; n_rows where nothing is cut."""
        most = np.full(self.n_rows, self.n_rows)
        most[self.n_prefill :][self.interval - 1 :: self.interval] = self.budget
        return most

    def check_protected(self, rows: int, policy: str, what: str, least: int = 1) -> None:
        """Raise ValueError unless the budget is at least `least` rows above the protected ones."""
        if self.budget < rows + least:
            raise ValueError(
                f"budget must be at least {rows + least} for policy {policy!r}, which protects {what}; "
                f"got {self.budget}"
            )
