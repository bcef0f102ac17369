"""What a policy does to one prompt: its scores, parameters, seed and protected rows, put together in one place.

A user names a policy; which score table it goes by, what it is told and which rows it protects follow from what
the policy declares (`routegraph.policies`) and from what the table's scorer set aside. Everything that evicts a real
model's rows asks an `Eviction`, and nothing else knows a policy by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from routegraph.validate.presses.methods import (
    DEFAULT_SCORER,
    Named,
    method_words,
    resolve,
    scorer_named,
)
from routegraph.validate.presses.scorers import CHUNK_LENGTH, SCORERS

Scores = NDArray[np.float32]


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


@dataclass(frozen=True, eq=False)
class Fates:
    """What survives at each of some ratios.

    Attributes
    ----------
    parts : tuple of (Survival, tuple of float)
        Survivals, each with the ratios that it holds for: one for all where the method is nested, else one each.
    """

    parts: tuple[tuple[Survival, tuple[float, ...]], ...]

    @classmethod
    def of(cls, survive: Callable[[float | None], Survival], ratios: Sequence[float], nested: bool) -> Fates:
        """Ask ``survive(ratio)`` at every ratio; once, without one, where a survival holds for all of them."""
        if nested:
            return cls(((survive(None), tuple(ratios)),))
        return cls(tuple((survive(ratio), (ratio,)) for ratio in ratios))

    def join(self, what: Callable[[Survival, Sequence[float]], NDArray[Any]]) -> NDArray[Any]:
        """Return ``what(survival, ratios)[..., n_ratios]`` of all ratios, which are its last axis."""
        return np.concatenate([what(survival, ratios) for survival, ratios in self.parts], axis=-1)

    @property
    def drop(self) -> NDArray[np.integer]:
        """The order in which rows go: their levels, or, where they may come back, at how many ratios they are kept."""
        if len(self.parts) == 1:
            return np.asarray(self.parts[0][0].drop)
        kept = [one.alive(ratio) for one, ratios in self.parts for ratio in ratios]
        return np.asarray(np.sum(kept, axis=0))


@dataclass(frozen=True)
class Method:
    """A policy and the scores it goes by.

    Attributes
    ----------
    name, policy : str
        The method's own, and that of its cut, as registered.
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

    @property
    def words(self) -> str:
        """Whose scores and which cut, in words."""
        return method_words(self.policy, self.table)

    @classmethod
    def named(cls, name: str, chunk_length: int = CHUNK_LENGTH) -> Method:
        """Return the method that a name stands for; see `routegraph.validate.presses.methods`.

        Parameters
        ----------
        name : str
            A method of kvpress's ("snapkv", "SnapKVPress"), by its own scores; a registered policy ("topk"), which
            goes by expected attention; or "CUT@SCORER" for any two.
        chunk_length : int
            For policies that cut chunks scored by themselves.

        Raises
        ------
        ValueError
            If method, policy or scorer are unknown.
        """
        found = resolve(name)
        scorer = found.scorer or DEFAULT_SCORER
        if policies.declared(found.cut).scores == "chunks":
            parameters = (("chunk_length", chunk_length),)
            return cls(found.name, found.cut, f"{scorer}/chunk{chunk_length}", parameters)
        return cls(found.name, found.cut, scorer)

    @classmethod
    def of_scores(cls, scored: Scored, policy: str, scorer: str | None = None) -> Method:
        """Return the method that a name stands for, with the table of a prompt that it goes by.

        Parameters
        ----------
        scored : Scored
            Its tables are known by name, those of presses that are not registered, too.
        policy : str
            As for `named`. One that cuts chunks goes by a table made chunk by chunk, the others by a whole one.
        scorer : str, optional
            Whose scores a cut alone goes by; Expected Attention's by default. What has scores of its own keeps them.

        Raises
        ------
        ValueError
            If the policy is unknown, or there is no such table.
        """
        held = {table.partition("/")[0] for table in scored.scores}
        found = resolve(policy, held)
        declared = policies.declared(found.cut)
        by_chunk = declared.scores == "chunks"
        chosen = DEFAULT_SCORER if scorer is None else scorer_named(scorer, held)
        whose = found.scorer or chosen
        if declared.scores is None:  # any table gives the shape
            return cls(found.name, found.cut, next(iter(scored.scores), whose))
        for table in scored.scores:
            told = scored.scorers.get(table, {})
            if ("chunk_length" in told) == by_chunk and table.partition("/")[0] == whose:
                parameters = (("chunk_length", int(told["chunk_length"])),) if by_chunk else ()
                return cls(found.name, found.cut, table, parameters)
        raise ValueError(_lacking(scored, found, whose, by_chunk))

    @property
    def protection(self) -> Protection:
        """Rows that the policy itself protects."""
        return policies.protection(self.policy, dict(self.parameters))

    def fates(self, scores: Scores, ratios: Sequence[float], seed: int = 0) -> Fates:
        """Return what survives at every ratio."""
        return Fates.of(lambda ratio: self.evict(scores, ratio, seed), ratios, self.nested)

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
            Where it goes by no scores, any table of the prompt gives the shape; chunks are cut as this prompt's were
            scored.
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
        given = dict(method.parameters)
        if "chunk_length" in given and "chunk_length" in told:
            # A few rows less than asked for where this prompt's last chunk could not have been scored.
            given["chunk_length"] = int(told["chunk_length"])
            method = replace(method, parameters=tuple(given.items()))
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

    def fates(self, ratios: Sequence[float]) -> Fates:
        """Return what survives at every ratio, for readings that run over all of them."""
        return Fates.of(self.survival, ratios, self.method.nested)

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


def legend(names: Iterable[str], chunk_length: int = CHUNK_LENGTH) -> dict[str, str]:
    """Return what every name of a method means, in words; of one that is not registered here, that it is not."""
    told = {}
    for name in names:
        try:
            told[name] = Method.named(name, chunk_length).words
        except ValueError:
            told[name] = "a policy or scorer that is not registered here"
    return told


def _lacking(scored: Scored, found: Named, whose: str, by_chunk: bool) -> str:
    """Return that a trace lacks the scores of a method, and what would give them, in a sentence."""
    kind = "chunk-wise scores" if by_chunk else "scores"
    held = list(scored.scores)
    option = f"{whose}/chunk{CHUNK_LENGTH}" if by_chunk and whose != DEFAULT_SCORER else whose
    cure = f"extract with --scorer {option} to store them" if whose in SCORERS else "extract with that press"
    other = next((one for one in held if ("/chunk" in one) == by_chunk and "/" not in found.name), None)
    if other is not None and found.scorer is None:
        cure += f", or name {found.cut}@{other.partition('/')[0]}"
    return (
        f"trace holds no {kind} by scorer {whose!r} for policy {found.name!r}; it holds: "
        f"{', '.join(held) or 'none'}; {cure}"
    )


def seed_of(seed: int, prompt: str) -> int:
    """Return the seed of one prompt of a run."""
    return int(digest([seed, prompt]), 16)
