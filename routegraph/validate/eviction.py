"""What a policy does to one prompt: its scores, parameters, seed and protected rows, put together in one place.

A user names a policy; which score table it goes by, what it is told and which rows it protects follow from what
the policy declares (`routegraph.policies`) and from what the table's scorer set aside. Everything that evicts a real
model's rows asks an `Eviction`, and nothing else knows a policy by its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from routegraph import policies
from routegraph.files import digest
from routegraph.protection import Protection
from routegraph.survival import Survival
from routegraph.validate.models.attention import seen_rows
from routegraph.validate.presses.scorers import CHUNK_LENGTH, SCORERS

Scores = NDArray[np.float32]

#: Policies that `measure` takes by the name of the scorer whose rows they cut head by head.
BY_SCORER = ("snapkv", "knorm")
#: What a policy goes by where no scorer is named.
DEFAULT_SCORER = "expected_attention"


class Scored(Protocol):
    """A prompt with its scores: a `Trace`, or what a prefill has just given."""

    @property
    def id(self) -> str:
        """Name of the prompt."""

    @property
    def scores(self) -> Mapping[str, Scores]:
        """Score tables, float32[n_layers, n_heads, n_context] each."""

    @property
    def scorers(self) -> Mapping[str, Mapping[str, Any]]:
        """Parameters of each table, its protected rows among them."""

    @property
    def windows(self) -> Sequence[int]:
        """Sliding window of each layer, 0: none; empty where no layer has one."""

    @property
    def spares_local(self) -> bool:
        """Whether layers with a window are left alone."""


@dataclass(frozen=True)
class Method:
    """A policy and the scores it goes by.

    Attributes
    ----------
    name, policy : str
        As asked for, and as registered.
    table : str
        Score table it evicts by; of a policy that goes by none, the one that gives the shape.
    parameters : tuple of (str, value)
        What it is told.
    """

    name: str
    policy: str
    table: str
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def scored(self) -> bool:
        """Whether the policy goes by scores at all."""
        return policies.declared(self.policy).scores is not None

    @property
    def nested(self) -> bool:
        """Whether one survival holds for every ratio."""
        return policies.is_nested(self.policy)

    @classmethod
    def named(cls, name: str, chunk_length: int = CHUNK_LENGTH) -> Method:
        """Return the policy that a name stands for.

        Parameters
        ----------
        name : str
            A registered policy ("topk"), which goes by expected attention; "snapkv" or "knorm", by those scores head
            by head; or "POLICY@SCORER" for any two.
        chunk_length : int
            For policies that cut chunks scored by themselves.

        Raises
        ------
        ValueError
            If policy or scorer are unknown.
        """
        policy, at, scorer = name.partition("@")
        if not at and name in BY_SCORER:
            return cls(name, "topk", name)
        if not at and name not in policies.policies:
            known = ", ".join(sorted({*policies.policies, *BY_SCORER}))
            raise ValueError(f"unknown policy {name!r}; choose from: {known}, or POLICY@SCORER")
        by_chunk = policies.declared(policy).scores == "chunks"
        scorer = scorer or DEFAULT_SCORER
        SCORERS[scorer]
        if by_chunk:
            return cls(name, policy, f"{scorer}/chunk{chunk_length}", (("chunk_length", chunk_length),))
        return cls(name, policy, scorer)

    @classmethod
    def of_scores(cls, scored: Scored, policy: str, scorer: str | None = None) -> Method:
        """Return a policy with the first table of a prompt that it can go by.

        Parameters
        ----------
        scored : Scored
            Made by chunk for a policy that cuts chunks, whole otherwise.
        policy : str
            As registered.
        scorer : str, optional
            Whose table; of whichever scorer comes first by default.

        Raises
        ------
        ValueError
            If the policy is unknown, or there is no such table.
        """
        by_chunk = policies.declared(policy).scores == "chunks"
        for table in scored.scores:
            told = scored.scorers.get(table, {})
            if ("chunk_length" in told) == by_chunk and scorer in (None, table.partition("/")[0]):
                parameters = (("chunk_length", int(told["chunk_length"])),) if by_chunk else ()
                return cls(policy, policy, table, parameters)
        whose = "" if scorer is None else f" by scorer {scorer!r}"
        raise ValueError(
            f"trace holds no {'chunk-wise ' if by_chunk else ''}scores{whose} for policy {policy!r}; "
            f"it holds: {', '.join(scored.scores) or 'none'}"
        )

    @property
    def protection(self) -> Protection:
        """Rows that the policy itself protects."""
        return policies.protection(self.policy, dict(self.parameters))

    def evict(self, scores: Scores, ratio: float | None = None, seed: int = 0) -> Survival:
        """Return what survives; of a nested policy that holds for every ratio."""
        given = dict(self.parameters)
        if policies.is_seeded(self.policy):
            given["seed"] = seed
        return policies.apply(self.policy, scores, ratio=ratio, **given)


@dataclass(frozen=True, eq=False)
class Eviction:
    """A method on one prompt.

    Attributes
    ----------
    method : Method
    scores : float32[n_layers, n_heads, n_context]
    seed : int
        Of this prompt, for policies that draw.
    scorer : mapping
        Parameters of the score table, its protected rows among them; empty for a method that goes by none.
    n_scored : int
        Rows of the whole prompt, of which `scores` may hold the first only.
    windows : sequence of int
        Sliding window of each layer, 0: none; empty where no layer has one.
    spares_local : bool
        Whether layers with a window are left alone.
    """

    method: Method
    scores: Scores
    seed: int
    scorer: Mapping[str, Any]
    n_scored: int
    windows: Sequence[int] = ()
    spares_local: bool = False

    @classmethod
    def of(cls, method: Method, prompt: Scored, seed: int = 0) -> Eviction:
        """Put a method and a prompt together.

        Parameters
        ----------
        method : Method
            Where it goes by no scores, any table of the prompt gives the shape.
        prompt : Scored
        seed : int
            Of the run; every prompt has one of its own, from this and its id.

        Raises
        ------
        ValueError
            If the prompt lacks the scores.
        """
        table = method.table
        if table not in prompt.scores:
            if method.scored or not prompt.scores:
                raise ValueError(f"prompt {prompt.id!r} has no scores {table!r}")
            table = next(iter(prompt.scores))
        scores = prompt.scores[table]
        told = prompt.scorers.get(table, {}) if method.scored else {}
        local = prompt.windows, prompt.spares_local
        return cls(method, scores, seed_of(seed, prompt.id), told, scores.shape[-1], *local)

    def first(self, n_context: int) -> Eviction:
        """Return the eviction of the first rows only; their scores stay those of the whole prompt."""
        return replace(self, scores=self.scores[..., :n_context])

    @property
    def n_context(self) -> int:
        """Cache rows."""
        return int(self.scores.shape[-1])

    def survival(self, ratio: float | None = None) -> Survival:
        """Return what survives; a policy that is not nested needs the ratio."""
        survival = self.method.evict(self.scores, ratio, self.seed)
        return within_windows(survival, self.windows, self.spares_local)

    def survivals(self, ratios: Sequence[float]) -> list[Survival]:
        """Return what survives at every ratio; of a nested policy that is one and the same."""
        if self.method.nested:
            return [self.survival()] * len(ratios)
        return [self.survival(ratio) for ratio in ratios]

    @property
    def protection(self) -> Protection:
        """Rows that go last, whether the scorer or the policy sets them aside."""
        return Protection.of(self.scorer) | self.method.protection

    @cached_property
    def protected(self) -> NDArray[np.bool_]:
        """Which rows go last, bool[n_context]."""
        n = self.n_context
        return Protection.of(self.scorer).rows(self.n_scored)[:n] | self.method.protection.rows(n)

    @property
    def told(self) -> dict[str, Any]:
        """What a result keeps of the parameters and the protected rows, as JSON-ready values."""
        if not self.method.scored:
            return {**policies.policies.parameters(self.method.policy), **dict(self.method.parameters)}
        rows = asdict(self.protection)
        return {**self.scorer, **{name: rows[name] for name in ("n_sink", "window") if rows[name]}}


def within_windows(survival: Survival, windows: Sequence[int], spares_local: bool) -> Survival:
    """Return a survival in which rows outside of the sliding windows are dead from the start.

    A window ends at the query, which is the first one after the context here; later ones see less. What evicts scores
    all rows of a layer, as kvpress does on a cache that keeps them, unless it leaves layers with a window alone.

    Parameters
    ----------
    survival : Survival
    windows : sequence of int
        Of each layer, in rows, the query's own among them; 0: none.
    spares_local : bool
        Whether layers with a window are left alone.
    """
    if not any(windows):
        return survival
    spared = np.array(windows, dtype=bool) & spares_local
    drop = np.where(spared[:, None, None], survival.max_level + 1, survival.drop)
    return replace(survival, drop=np.where(seen_rows(windows, survival.n_context)[:, None], drop, 0))


def tables_of(methods: Sequence[Method]) -> list[str]:
    """Return the score tables that some methods need; where they go by none, one for its shape."""
    return list(dict.fromkeys(one.table for one in methods if one.scored)) or [DEFAULT_SCORER]


def seed_of(seed: int, prompt: str) -> int:
    """Return the seed of one prompt of a run."""
    return int(digest([seed, prompt]), 16)
