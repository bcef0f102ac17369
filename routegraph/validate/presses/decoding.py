"""Policies that evict while a real model decodes: how much each row of a slot is worth keeping, at every cut.

A policy is a function of keyword parameters, registered with `@reply_policy`, that returns a `Keeping`. Those of
kvpress ask its press for scores, with what its ``DecodingPress`` gives it; the rest are restated from their papers.
Rows stand in the order in which they came, here as in the papers. kvpress leaves them in the order of their scores, so
that a press which goes by the place of a row in the cache (StreamingLLM's, SnapKV's pooling) does something else there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from routegraph.registry import Registry
from routegraph.validate.presses.prefill import plain_errors
from routegraph.validate.presses.scorers import SCORERS, protection

#: Registry of policies that evict while a reply is decoded; `reply_policy` is its decorator.
REPLY_POLICIES = reply_policy = Registry("reply policy")


@dataclass(frozen=True, eq=False)
class Seen:
    """What a policy sees of one layer when it is cut.

    Attributes
    ----------
    module : attention module
    kwargs : mapping
        Of its forward call in this step.
    hidden : float tensor [1, n_passed, width]
        States that went into the layer since the last cut, the latest of them where there were many.
    keys, values : float tensor [1, n_kv_heads, n_rows, head_dim]
        Of the rows that are there, in the order in which they came.
    rows : int64 tensor [n_kv_heads, n_rows]
        Their positions.
    sums : float tensor [n_kv_heads, n_rows] or None
        Attention of all queries so far to each, the mean over the query heads of a group; where the policy reads it.
    queries : float tensor [n_query_heads, n_queries, head_dim] or None
        The latest queries, rotated; where the policy reads them.
    budget, step, seed : int
        Rows to keep; the step, from 1; seed of the prompt.
    """

    module: Any
    kwargs: Mapping[str, Any]
    hidden: Any
    keys: Any
    values: Any
    rows: Any
    sums: Any
    queries: Any
    budget: int
    step: int
    seed: int

    @property
    def newest(self) -> int:
        """Position of the newest row."""
        return int(self.rows.max())


@dataclass(frozen=True, eq=False)
class Keeping:
    """A policy with its parameters.

    Attributes
    ----------
    worth : callable
        Returns how much each row of a `Seen` is worth, float tensor [n_kv_heads, n_rows]: the lowest go, of equal ones
        the latest.
    prepare : callable
        Called with the model before the reply.
    protected : callable
        ``protected(budget)`` returns how many rows it never evicts.
    what : str
        These rows in words.
    least_interval : int
        Steps that must lie between cuts, or the policy has too little to go by.
    n_queries : int
        Latest queries that it reads.
    sums : bool
        Whether it reads the sums of attention.
    """

    worth: Callable[[Seen], Any]
    prepare: Callable[[Any], None] = lambda model: None
    protected: Callable[[int], int] = lambda budget: 0
    what: str = ""
    least_interval: int = 1
    n_queries: int = 0
    sums: bool = False


def keeping(policy: str, budget: int, interval: int) -> Keeping:
    """Return a policy, checked against a budget and an interval.

    Raises
    ------
    ValueError
        If there is no such policy, the budget is not above the rows that it protects, or the interval too short for
        what it reads.
    """
    made: Keeping = REPLY_POLICIES[policy]()
    least = made.protected(budget) + 1
    if budget < least:
        raise ValueError(
            f"decode budget must be at least {least} for policy {policy!r}, which protects {made.what}; got {budget}"
        )
    if interval < made.least_interval:
        raise ValueError(
            f"decode interval must be at least {made.least_interval} for policy {policy!r}, which goes by the queries "
            f"since the last cut; got {interval}"
        )
    return made


def _of_press(name: str, what: str = "", least_interval: int = 1) -> Keeping:
    """Return the policy that asks a press of kvpress, as `DecodingPress` does."""
    press = SCORERS[name]()

    def worth(seen: Seen) -> Any:
        with plain_errors(press):
            return press.score(seen.module, seen.hidden, seen.keys, seen.values, None, seen.kwargs)[0].float()

    rows = sum(protection(press, 0).values())
    return Keeping(worth, press.post_init_from_model, lambda budget: rows, what, least_interval)


@reply_policy("random")
def random() -> Keeping:
    """Evict any row, each with the same chance, drawn for every slot by itself: the null model."""

    def worth(seen: Seen) -> Any:
        import torch

        words = np.random.SeedSequence(seen.seed, spawn_key=(seen.module.layer_idx, seen.step))
        drawn = np.random.default_rng(words).random(tuple(seen.rows.shape))
        return torch.from_numpy(drawn).to(seen.keys.device)

    return Keeping(worth)


@reply_policy("streaming")
def streaming(*, n_sink: int = 4) -> Keeping:
    """Evict the oldest row that is no sink (arXiv 2309.17453)."""

    def worth(seen: Seen) -> Any:
        rows = seen.rows.double()
        return rows.masked_fill(seen.rows < n_sink, float("inf"))

    return Keeping(worth, protected=lambda budget: n_sink, what=f"{n_sink} sinks")


@reply_policy("h2o")
def h2o(*, recent: float = 0.5) -> Keeping:
    """Evict by least attention of all queries so far, outside of the latest rows (arXiv 2306.14048)."""

    def worth(seen: Seen) -> Any:
        window = int(recent * seen.budget)
        return seen.sums.masked_fill(seen.rows > seen.newest - window, float("inf"))

    return Keeping(
        worth,
        protected=lambda budget: int(recent * budget),
        what=f"the latest rows, {recent:g} of the budget",
        sums=True,
    )


@reply_policy("rkv")
def rkv(
    *, window: int = 8, kernel_size: int = 7, mix: float = 0.1, threshold: float = 0.5, latest: bool = True
) -> Keeping:
    """Evict by little attention and much likeness to other keys, outside of the latest rows (arXiv 2505.24133).

    With I the attention of the latest queries (logits: the greatest of a group's; softmax over the rows outside of the
    window; mean over queries; greatest of `kernel_size` neighbours) and R the softmax of each key's mean cosine with
    all others, a row is worth mix I - (1 - mix) R. With `latest`, every key leaves out the latest of those
    that are more alike to it than `threshold`: of keys that say the same the latest is spared.
    """

    def worth(seen: Seen) -> Any:
        import torch
        from torch.nn.functional import max_pool1d, normalize

        keys = seen.keys[0].float()
        n = keys.shape[1]
        inside = min(window, n - 1)
        group = len(seen.queries) // len(keys)
        queries = seen.queries.float().reshape(len(keys), group, -1, keys.shape[2])[:, :, -inside:]
        logits = torch.einsum("hgqd,hnd->hgqn", queries, keys).amax(1) * seen.module.scaling
        attention = logits[..., : n - inside].softmax(-1).mean(1)
        importance = max_pool1d(attention, kernel_size, stride=1, padding=kernel_size // 2)
        unit = normalize(keys, dim=2)
        alike = unit @ unit.transpose(1, 2)
        alike.diagonal(dim1=1, dim2=2).zero_()
        if latest:
            place = torch.arange(n, device=keys.device)
            # Without a key that is as alike the first one is spared, as in the authors' code.
            last = torch.where(alike > threshold, place, 0).amax(2, keepdim=True)
            alike.scatter_(2, last, 0.0)
        redundancy = alike.mean(1).softmax(-1)[:, : n - inside]
        values = torch.full((len(keys), n), float("inf"), device=keys.device)
        values[:, : n - inside] = mix * importance - (1 - mix) * redundancy
        return values

    return Keeping(worth, protected=lambda budget: window, what=f"the latest {window} rows", n_queries=window)


@reply_policy("knorm")
def knorm() -> Keeping:
    """Evict the key of the largest norm (arXiv 2406.11430), as kvpress's DecodingPress(KnormPress()) does."""
    return _of_press("knorm")


@reply_policy("keydiff")
def keydiff() -> Keeping:
    """Evict the key most like the mean key (arXiv 2504.15364), as kvpress's DecodingPress(KeyDiffPress()) does."""
    return _of_press("keydiff")


@reply_policy("tova")
def tova() -> Keeping:
    """Evict by least attention of the last query (arXiv 2401.06104), as kvpress's DecodingPress(TOVAPress()) does.

    One mean over all query heads of a layer: its KV heads keep the same rows.
    """
    return _of_press("tova", "the latest row")


@reply_policy("expected_attention")
def expected_attention() -> Keeping:
    """Evict by least expected attention (arXiv 2510.00636), as DecodingPress(ExpectedAttentionPress()) does.

    The mean query is that of the steps since the last cut but for the first four, and future positions are counted from
    the number of those steps: kvpress's press knows no other place of the queries that it is given.
    """
    return _of_press("expected_attention", "4 sinks", least_interval=5)
