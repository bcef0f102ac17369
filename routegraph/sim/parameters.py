"""What a cell of simulations is made of, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from routegraph import policies
from routegraph.routes import check_prune
from routegraph.sim import ensembles
from routegraph.survival import Survival


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
    ensemble_parameters: tuple[tuple[str, Any], ...] = ()
    policy_parameters: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name in ("n_tokens", "n_layers", "n_heads", "degree", "n_answers"):
            check_count(name, getattr(self, name))
        if self.n_answers > self.n_tokens:
            raise ValueError(f"n_answers must be in 1..n_tokens = {self.n_tokens}, got {self.n_answers}")
        if not 0 <= self.score_correlation <= 1:
            raise ValueError(f"score_correlation must be in [0, 1], got {self.score_correlation}")
        check_prune(self.prune)
        ensembles.ensembles.check_parameters(self.ensemble, dict(self.ensemble_parameters))
        # A dry run on the smallest graph checks the values of the settings before anything is computed.
        self.draw_edges(np.uint64(0), 1, n_tokens=1)
        self.levels_of()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_layers, n_heads, n_tokens)."""
        return self.n_layers, self.n_heads, self.n_tokens

    def draw_edges(self, key: np.uint64, layer: int, n_tokens: int) -> ensembles.Edges:
        """Draw the read edges of one layer of the ensemble."""
        edges: ensembles.Edges = ensembles.ensembles[self.ensemble](
            key,
            layer,
            n_tokens=n_tokens,
            n_heads=self.n_heads,
            degree=self.degree,
            **dict(self.ensemble_parameters),
        )
        return edges

    def levels_of(self) -> Survival:
        """Return a one-slot Survival that turns ratios into levels as the policy does."""
        scores = np.zeros((1, 1, self.n_tokens), dtype=np.float32)
        return policies.apply(self.policy, scores, **dict(self.policy_parameters))


def check_count(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def split_settings(
    ensemble: str, policy: str, settings: Mapping[str, Any]
) -> dict[str, tuple[tuple[str, Any], ...]]:
    """Sort NAME=VALUE settings into those of the ensemble and those of the policy.

    Raises
    ------
    ValueError
        If neither takes a setting; the choices are named.
    """
    of_ensemble = ensembles.ensembles.parameters(ensemble)
    # A simulation seeds its policy itself.
    of_policy = {k: v for k, v in policies.policies.parameters(policy).items() if k != "seed"}
    for name in settings:
        if name not in of_ensemble and name not in of_policy:
            choices = ", ".join([*of_ensemble, *of_policy]) or "none"
            raise ValueError(
                f"neither ensemble {ensemble!r} nor policy {policy!r} takes {name!r}; choose from: {choices}"
            )
    return {
        "ensemble_parameters": tuple(sorted((k, v) for k, v in settings.items() if k in of_ensemble)),
        "policy_parameters": tuple(sorted((k, v) for k, v in settings.items() if k in of_policy)),
    }


def definitions(parameters: Parameters) -> dict[str, str]:
    """Return, in words, the definitions behind the figures of a simulation."""
    pruning = {
        "columns": "columns: an edge is gone when the slot it reads is dead, for every query",
        "decode": "decode: an edge is gone when its slot is dead and its query comes after the context",
    }
    return {
        "ratio": "fraction of cache rows removed from each (layer, KV head)",
        "level": "rows gone from each slot, n - max(1, int(n * (1 - ratio))), or the policy's own steps",
        "head_axis": "ger, eviction_rate: gone from all layers * heads slots; *_layer: gone from all heads "
        "of a layer, averaged over layers",
        "prune": pruning[parameters.prune],
        "residual": "a token also carries itself down each layer"
        if parameters.residual
        else "no residual edges: only reads carry a token down",
        "source": "one query, at the position after the last cache row; it is never evicted",
        "answers": "answer tokens drawn uniformly without replacement in each replicate",
        "sink": "no attention sinks: no row is protected unless the policy protects it",
        "stderr": "standard deviation over replicates / sqrt(replicates); null at one replicate",
        "theory": "GER and eviction keys: (level/n)**slots, or the one-factor Gaussian copula with "
        "score_correlation, for the policies random and topk; reach_fraction: cavity recursion for "
        "uniform reads, columns, no score correlation; null elsewhere",
    }
