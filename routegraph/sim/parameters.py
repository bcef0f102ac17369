"""What a cell of simulations is made of: every option once, checked before anything is computed.

What draws is imported when it is first needed: the command line asks for the options alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from routegraph.choices import PRUNING, SOURCES
from routegraph.memory import REPLICATES, check_free
from routegraph.options import check, option
from routegraph.schema import anything, checked, listing, maybe, real, record, table_of, text, whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from routegraph.registry import Registry
    from routegraph.sim.ensembles import Edges
    from routegraph.sim.fields import Field
    from routegraph.survival import Survival

Settings = tuple[tuple[str, Any], ...]

#: Bytes a row of one head, or a read of one token, where parameters are only checked.
DRY = 24


@dataclass(frozen=True)
class Parameters:
    """What a cell of simulations is made of.

    A field made with `option` is a keyword of `simulate` and `sweep` and an option of the commands of these names; its
    help, range and choices stand here and nowhere else.

    Attributes
    ----------
    ensemble_parameters, policy_parameters, profile_parameters : tuple of (str, value)
        Further parameters of those that are named: the settings.

    Raises
    ------
    ValueError
        If a parameter is out of range or unknown.
    """

    n_tokens: int = option(4096, "Cache rows; the query is one more position after them.", low=1, high=10**9)
    n_layers: int = option(32, "Layers.", low=1, high=10**5)
    n_heads: int = option(8, "KV heads a layer.", low=1, high=10**5)
    degree: int = option(1, "Reads drawn for each (layer, KV head, token).", low=1, high=10**6)
    ensemble: str = option("uniform", "Where the reads fall; see `routegraph list`.")
    policy: str = option("random", "Which rows are evicted first; see `routegraph list`.")
    score_correlation: float = option(
        0.0, "Correlation of the scores that any two slots give one token.", low=0, high=1, metavar="RHO"
    )
    prune: str = option(
        "columns",
        "Whose edges into dead slots are cut: those of every position, or of the query alone.",
        choices=PRUNING,
        noun="pruning",
    )
    residual: bool = option(True, "Let a token carry itself down a layer.")
    n_answers: int = option(8, "Answer tokens drawn in each replicate.", low=1)
    group_size: int = option(
        1, "Query heads a KV head, each with `degree` reads of its own.", low=1, high=10**5
    )
    profile: str = option(
        "flat",
        "How the agreement of heads changes with depth: flat (score_correlation in every layer), llama (early "
        "consensus), qwen (late consensus), given, trace.",
    )
    correlation_floor: float = option(
        1.0, "Share of what the heads of a layer share that all layers have in common.", low=0, high=1
    )
    correlation_length: float = option(10.0, "Layers over which the rest of it decays.", above=0)
    read_agreement: float = option(
        0.0, "Chance, times its layer's agreement, that a head reads what head 0 reads.", low=0, high=1
    )
    attention_tie: float = option(
        0.0, "Correlation of the scores with how often the graph reads each slot.", low=0, high=1
    )
    answer_shift: float = option(0.0, "Standard deviations added to the answer tokens' scores.")
    source: str = option(
        "query",
        "Where routes start: at the query, or at every position of the top layer.",
        choices=SOURCES,
    )
    directed: bool = option(
        True, "Routes go from query to key only, or both ways (undirected percolation).", off="undirected"
    )
    ensemble_parameters: Settings = ()
    policy_parameters: Settings = ()
    profile_parameters: Settings = ()

    def __post_init__(self) -> None:
        import numpy as np

        from routegraph.policies import declared
        from routegraph.sim.ensembles import ensembles

        check(self)
        if self.n_answers > self.n_tokens:
            raise ValueError(f"n_answers must be in 1..n_tokens = {self.n_tokens}, got {self.n_answers}")
        ensembles.check_parameters(self.ensemble, dict(self.ensemble_parameters))
        if declared(self.policy).draws == "levels" and not self.independent:
            raise ValueError(
                f"policy {self.policy!r} evicts every slot on its own; it takes no correlated scores, and none that an "
                "option alters"
            )
        # Dry runs check the values of the settings before anything is computed.
        layers = self._layers_that_differ()
        check_free(DRY * (layers * self.n_tokens + self.n_heads * self.reads), "its check alone")
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
        return self.plain_scores and not self.agreement().any()

    @property
    def plain_scores(self) -> bool:
        """Whether the scores are those of the field, which theory knows, and no option alters them."""
        return self.attention_tie == 0 and self.answer_shift == 0

    def agreement(self) -> NDArray[np.float64]:
        """Return how much the heads of each layer agree, float64[n_layers] in [0, 1]."""
        from routegraph.sim.profiles import agreement_by_layer

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
        from routegraph.sim.fields import Field, field_of_trace

        if self.profile == "trace":
            return field_of_trace(dict(self.profile_parameters)["field_trace"], self.n_layers)
        return Field(self.agreement(), self.correlation_floor, self.correlation_length)

    def draw_edges(self, key: np.uint64, layer: int, n_tokens: int) -> Edges:
        """Draw the read edges of one layer."""
        from routegraph.sim.ensembles import ensembles
        from routegraph.sim.ensembles.base import follow_head_0

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

    def _layers_that_differ(self) -> int:
        """Return of how many layers the levels must be looked at: where they are drawn one by one, all are alike."""
        from routegraph.policies import declared

        return 1 if declared(self.policy).draws else self.n_layers

    def levels_of(self) -> Survival:
        """Return a Survival of one head that turns ratios into levels as the policy does.

        For a policy that is not nested: of ratio 0, only good as a check of its parameters.
        """
        import numpy as np

        from routegraph.policies import apply

        scores = np.zeros((self._layers_that_differ(), 1, self.n_tokens), dtype=np.float32)
        return apply(self.policy, scores, ratio=0.0, **dict(self.policy_parameters))


def split_settings(
    ensemble: str, policy: str, profile: str, settings: Mapping[str, Any]
) -> dict[str, Settings]:
    """Sort NAME=VALUE settings into those of the ensemble, the policy and the depth profile.

    Raises
    ------
    ValueError
        If none of them takes a setting; the choices are named.
    """
    from routegraph.policies import policies
    from routegraph.sim.ensembles import ensembles
    from routegraph.sim.profiles import profiles

    owners: dict[str, tuple[Registry, str, str]] = {
        "ensemble_parameters": (ensembles, ensemble, ""),
        # A simulation seeds its policy itself.
        "policy_parameters": (policies, policy, "seed"),
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


#: What parameters that are stored must be, before the options are looked at, and what a stored result must be.
_STORED = {"ensemble": text, "policy": text, "settings": table_of(anything)}
STORED = record({"parameters": record(_STORED, {"profile": text})})
_FIGURE = record({"mean": maybe(real())}, {"stderr": maybe(real()), "theory": maybe(real())})


def _row(value: Any, place: str) -> None:
    """Take what `simulate` tells of a ratio: figures, each a mean with its error and its theory."""
    record({"ratio": real(0, below=1)})(value, place)
    table_of(_FIGURE)({name: told for name, told in value.items() if name != "ratio"}, place)


_RESULT = {
    "version": text,
    "seed": whole(0, math.inf),
    "parameters": record(
        {**_STORED, "ratio": listing(real(0, below=1), least=1), "replicates": whole(1, REPLICATES)},
        {"profile": text, "measures": listing(text)},
    ),
}
RESULT = record({**_RESULT, "results": listing(_row)})
#: Of `replay`, which tells itself what is wrong with the rows.
RETOLD = record({**_RESULT, "results": listing(table_of(anything))})


def from_document(document: Mapping[str, Any]) -> Parameters:
    """Return the parameters of a stored result (`Simulation.to_dict`).

    Raises
    ------
    ValueError
        If the document is no result of `simulate`, or holds a parameter this version does not know.
    """
    checked(STORED, document, "not a result of simulate, or of another version")
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
    except ValueError as error:
        if str(error).startswith("unknown "):
            raise ValueError(f"{error}; a name of your own needs its file, --load FILE.py") from None
        raise


def definitions(parameters: Parameters) -> dict[str, str]:
    """Return, in words, the definitions behind the figures of a simulation."""
    from routegraph import policies

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
