"""How a cache is cut while a reply is decoded, and what comes of it: the reply, and when each row died."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.options import check_whole
from routegraph.sim.decoding.run import survival_in_time
from routegraph.survival import Survival
from routegraph.validate.decoding.decode import Ids
from routegraph.validate.presses.decoding import keeping


@dataclass(frozen=True)
class Cutting:
    """How the cache is cut while a reply is decoded.

    Attributes
    ----------
    policy : str
        Name in `routegraph.validate.presses.decoding.REPLY_POLICIES`.
    budget : int
        Rows that a cut leaves in every slot; 0: it is never cut.
    interval : int
        Steps from cut to cut.

    Raises
    ------
    ValueError
        If there is no such policy, a number is out of range, or the budget not above the rows that are protected.
    """

    policy: str
    budget: int
    interval: int = 1

    def __post_init__(self) -> None:
        check_whole("decode budget", self.budget, low=0)
        check_whole("decode interval", self.interval, low=1)
        if self.budget:
            keeping(self.policy, self.budget, self.interval)


#: A cache that is never cut.
WHOLE = Cutting("", 0)


@dataclass(frozen=True, eq=False)
class Written:
    """A reply, and when the rows of the cache that it was written with died.

    Rows are numbered by their positions: those of context and question, then one for each token of the reply. The row
    of step 1 is the last of the question; `n_prefill` rows come with or before it.

    Attributes
    ----------
    token_ids : int64[n_new]
        Up to and with the token that ends it.
    text : str
        Without special tokens.
    cut : bool
        Whether it was still going on at the greatest length.
    death : int32[n_layers, n_kv_heads, n_prefill + n_steps]
        The step at which each row dies, n_steps + 1 if it never does: as `routegraph.sim.decoding.run.death_table`.
    n_context, n_prefill : int
    """

    token_ids: Ids
    text: str
    cut: bool
    death: NDArray[np.int32]
    n_context: int
    n_prefill: int

    @property
    def n_steps(self) -> int:
        """Steps: that of the question, and one for each token that was fed again."""
        return int(self.death.shape[2]) - self.n_prefill

    @property
    def prompt(self) -> Survival:
        """Context and question in time: a survival whose levels are steps."""
        return survival_in_time(self.death[:, :, : self.n_prefill + 1], self.n_steps)

    @property
    def fired(self) -> bool:
        """Whether anything was evicted."""
        return bool((self.death <= self.n_steps).any())


def survival_by_age(
    death: NDArray[np.integer[Any]], n_prefill: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many slots of decoded rows there were at each age, and how many were still alive.

    Age 0 is the step in which a row came, after its cut. Counted are the rows from step 1 on, in all slots, as in
    `routegraph.sim.decoding.run.Curves`.

    Parameters
    ----------
    death : int[..., n_prefill + n_steps]
        As that of `Written`.
    n_prefill : int

    Returns
    -------
    alive, there : int64[n_steps]
        By age, in steps.
    """
    steps = death.shape[-1] - n_prefill
    lives = death[..., n_prefill:] - np.arange(1, steps + 1)
    counts = np.bincount(lives.ravel(), minlength=steps + 1)
    alive = counts.sum() - np.cumsum(counts)[:steps]
    slots = death.size // death.shape[-1]
    return alive, slots * (steps - np.arange(steps))
