"""What a cell of simulations is made of, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import policies
from routegraph.registry import Registry
from routegraph.routes import check_prune
from routegraph.sim.ensembles import Edges, ensembles
from routegraph.sim.ensembles.base import follow_head_0
from routegraph.sim.fields import Field, field_of_trace
from routegraph.sim.profiles import agreement_by_layer, profiles
from routegraph.survival import Survival

Settings = tuple[tuple[str, Any], ...]

#: Where routes start: at the query, or at every position of the top layer.
SOURCES = ("query", "row")


@dataclass(frozen=True)
class Parameters:
    """What a cell of simulations is made of; see `simulate` for the meaning of each."""

    n_tokens: int = 4096
    n_layers: int = 32
    n_heads: int = 8
    degree: int = 1
    ensemble: str = "uniform"
    policy: str = "random"
    score_correlation: float = 0.0
    prune: str = "columns"
    residual: bool = True
    n_answers: int = 8
    group_size: int = 1
    profile: str = "flat"
    correlation_floor: float = 1.0
    correlation_length: float = 10.0
    read_agreement: float = 0.0
    attention_tie: float = 0.0
    answer_shift: float = 0.0
    source: str = "query"
    directed: bool = True
    ensemble_parameters: Settings = ()
    policy_parameters: Settings = ()
    profile_parameters: Settings = ()

    def __post_init__(self) -> None:
        for name in ("n_tokens", "n_layers", "n_heads", "degree", "n_answers", "group_size"):
            check_count(name, getattr(self, name))
        if self.n_answers > self.n_tokens:
            raise ValueError(f"n_answers must be in 1..n_tokens = {self.n_tokens}, got {self.n_answers}")
        for name in ("score_correlation", "correlation_floor", "read_agreement", "attention_tie"):
            check_share(name, getattr(self, name))
        if not self.correlation_length > 0:
            raise ValueError(f"correlation_length must be above 0, got {self.correlation_length}")
        if not np.isfinite(self.answer_shift):
            raise ValueError(f"answer_shift must be a finite number, got {self.answer_shift}")
        check_prune(self.prune)
        if self.source not in SOURCES:
            raise ValueError(f"unknown source {self.source!r}; choose from: {', '.join(SOURCES)}")
        ensembles.check_parameters(self.ensemble, dict(self.ensemble_parameters))
        if policies.declared(self.policy).draws == "levels" and not self.independent:
            raise ValueError(
                f"policy {self.policy!r} evicts every slot on its own; it takes no correlated scores"
            )
        # Dry runs check the values of the settings before anything is computed.
        agreement = self.agreement()
        edges = self.draw_edges(np.uint64(0), 1, n_tokens=1)
        if self.read_agreement and agreement.any() and len(edges.slots) != self.reads * self.n_heads:
            raise ValueError(f"read_agreement needs heads that read alike, not ensemble {self.ensemble!r}")
        self.levels_of()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_layers, n_heads, n_tokens)."""
        return self.n_layers, self.n_heads, self.n_tokens

    @property
    def reads(self) -> int:
        """Reads of a token in each (layer, KV head): degree for every query head of the group."""
        return self.degree * self.group_size

    @property
    def independent(self) -> bool:
        """Whether all slots are evicted in independent random orders."""
        plain = self.attention_tie == 0 and self.answer_shift == 0
        return plain and not self.agreement().any()

    def agreement(self) -> NDArray[np.float64]:
        """Return how much the heads of each layer agree, float64[n_layers] in [0, 1]."""
        given = dict(self.profile_parameters)
        if self.profile == "flat":
            given["score_correlation"] = float(self.score_correlation)
        elif self.score_correlation:
            raise ValueError(
                f"score_correlation is for the profile 'flat'; profile {self.profile!r} sets its own"
            )
        return agreement_by_layer(self.profile, self.n_layers, **given)

    def field(self) -> Field:
        """Return the score field; profile "trace" brings its own floor and length."""
        if self.profile == "trace":
            return field_of_trace(dict(self.profile_parameters)["field_trace"], self.n_layers)
        return Field(self.agreement(), self.correlation_floor, self.correlation_length)

    def draw_edges(self, key: np.uint64, layer: int, n_tokens: int) -> Edges:
        """Draw the read edges of one layer."""
        edges: Edges = ensembles[self.ensemble](
            key,
            layer,
            n_tokens=n_tokens,
            n_heads=self.n_heads,
            degree=self.reads,
            **dict(self.ensemble_parameters),
        )
        shared = self.read_agreement * self.agreement()[layer - 1] if self.read_agreement else 0.0
        if shared:
            follow_head_0(key, layer, self.n_heads, self.reads, shared, edges.slots)
        return edges

    def levels_of(self) -> Survival:
        """Return a Survival of one head that turns ratios into levels as the policy does.

        For a policy that is not nested: of ratio 0, only good as a check of its parameters.
        """
        scores = np.zeros((self.n_layers, 1, self.n_tokens), dtype=np.float32)
        return policies.apply(self.policy, scores, ratio=0.0, **dict(self.policy_parameters))


def check_count(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless `value` lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def split_settings(
    ensemble: str, policy: str, profile: str, settings: Mapping[str, Any]
) -> dict[str, Settings]:
    """Sort NAME=VALUE settings into those of the ensemble, the policy and the depth profile.

    Raises
    ------
    ValueError
        If none of them takes a setting; the choices are named.
    """
    owners: dict[str, tuple[Registry, str, str]] = {
        "ensemble_parameters": (ensembles, ensemble, ""),
        # A simulation seeds its policy itself.
        "policy_parameters": (policies.policies, policy, "seed"),
        # The correlation of the flat profile has a parameter of its own.
        "profile_parameters": (profiles, profile, "score_correlation"),
    }
    taken = {
        owner: {name for name in registry.parameters(chosen) if name != hidden}
        for owner, (registry, chosen, hidden) in owners.items()
    }
    for name in settings:
        if not any(name in names for names in taken.values()):
            choices = ", ".join(sorted(set().union(*taken.values()))) or "none"
            raise ValueError(
                f"neither ensemble {ensemble!r}, policy {policy!r} nor profile {profile!r} takes {name!r}; "
                f"choose from: {choices}"
            )
    return {
        owner: tuple(sorted((name, value) for name, value in settings.items() if name in names))
        for owner, names in taken.items()
    }


def from_document(document: Mapping[str, Any]) -> Parameters:
    """Return the parameters of a stored result (`Simulation.to_dict`).

    Raises
    ------
    ValueError
        If the document is no result of `simulate`, or holds a parameter this version does not know.
    """
    try:
        stored = dict(document["parameters"])
        settings = stored.pop("settings")
        for other in ("ratio", "replicates", "measures"):
            stored.pop(other, None)
        owned = split_settings(stored["ensemble"], stored["policy"], stored.get("profile", "flat"), settings)
        everything: dict[str, Any] = {**stored, **owned}
        return Parameters(**everything)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a result of simulate, or of another version: {error}") from None


def definitions(parameters: Parameters) -> dict[str, str]:
    """Return, in words, the definitions behind the figures of a simulation."""
    pruning = {
        "columns": "columns: an edge is gone when the slot it reads is dead, for every query",
        "decode": "decode: an edge is gone when its slot is dead and its query comes after the context",
    }
    shifted = f", their scores raised by {parameters.answer_shift:g} standard deviations"
    return {
        "ratio": "fraction of cache rows removed from each (layer, KV head)",
        "nested": "one pass answers all ratios"
        if policies.is_nested(parameters.policy)
        else f"policy {parameters.policy} is not nested: every ratio is a run of its own",
        "level": "rows gone from each slot, n - max(1, int(n * (1 - ratio))), or the policy's own steps",
        "head_axis": "ger, eviction_rate: gone from all layers * heads slots; *_layer: gone from all heads "
        "of a layer, averaged over layers",
        "prune": pruning[parameters.prune],
        "residual": "a token also carries itself down each layer"
        if parameters.residual
        else "no residual edges: only reads carry a token down",
        "source": "one query, at the position after the last cache row; it is never evicted"
        if parameters.source == "query"
        else "every position of the top layer",
        "routes": "directed: from query to key"
        if parameters.directed
        else "undirected: whatever hangs together with the source, directions forgotten, is reached",
        "answers": "answer tokens drawn uniformly without replacement in each replicate"
        + (shifted if parameters.answer_shift else ""),
        "sink": f"the policy protects {kept}: these rows go last"
        if (kept := policies.protection(parameters.policy, dict(parameters.policy_parameters)).words)
        else "no row is protected from eviction unless the policy protects it",
        "stderr": "standard deviation over replicates / sqrt(replicates); null at one replicate",
        "theory": "for the policies random and topk. GER and eviction keys: (level/n)**slots, the one-factor "
        "Gaussian copula with score_correlation, the field's own copula with a profile; reach_fraction: "
        "cavity recursion for independent scores, uniform reads, columns; null elsewhere",
    }
