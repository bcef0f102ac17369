"""What a simulation of decoding is made of: every option once, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from routegraph.memory import check_free
from routegraph.options import MOST, check, option

if TYPE_CHECKING:
    import numpy as np

    from routegraph.sim.decoding.slot import Slot

Settings = tuple[tuple[str, Any], ...]

#: Bytes a row of one head of a layer, and a read of its graph.
ROW, READ = 16, 8
#: Steps of the boosts at most, and the largest of them.
STEPS, STEEPEST = 64, 20


@dataclass(frozen=True)
class Decoding:
    """What a simulation of decoding is made of.

    A field made with `option` is a keyword of `simulate_decoding` and an option of the command ``decode``; its help and
    range stand here and nowhere else.

    Attributes
    ----------
    policy : str
        Name of a policy of decoding, or of a policy of `routegraph.policies`, which is then asked at every cut.
    policy_parameters : tuple of (str, value)
        Its own parameters, where they are not the defaults.

    Raises
    ------
    ValueError
        If a parameter is out of range or unknown, an interval longer than the steps, or the budget too small for what
        the policy protects.
    """

    n_prefill: int = option(1024, "Rows of the prompt, all there before the first step.", low=1, high=10**9)
    steps: int = option(1024, "Decoded steps, a new row each.", low=1, high=10**9)
    budget: int = option(512, "Rows that each slot keeps at most.", low=1)
    interval: int = option(1, "Steps from one cut of the cache to the next.", low=1)
    n_layers: int = option(32, "Layers.", low=1, high=10**5)
    n_heads: int = option(8, "KV heads a layer.", low=1, high=10**5)
    spread: float = option(
        1.0, "Standard deviation of the logarithm of the attention that rows get.", low=0, high=10
    )
    persistence: float = option(
        0.998, "Chance that a row is as popular at the next step; else it draws anew.", low=0, high=1
    )
    decay: float = option(
        0.002, "What the logarithm of the attention to a row loses with every step.", low=0, high=10
    )
    score_correlation: float = option(
        0.0, "Correlation of how popular a token is in any two slots.", low=0, high=1, metavar="RHO"
    )
    lasting: float = option(
        0.0, "Share of a row's popularity in its slot that is never drawn anew.", low=0, high=1
    )
    recency: str = option(
        "",
        "What the logarithm of the attention to a row gains from an age on, in steps, up to the next age named: "
        "0:5,3:2.5,32:0 is 5 for ages 0 to 2, then 2.5, and nothing from 32 on.",
        metavar="AGE:BOOST,...",
    )
    prompt_rows: str = option(
        "",
        "Spread, persistence and lasting of the prompt's rows where they differ from those of the reply, as "
        "1.6,0.46,0.73; from the first step on the prompt then has no boosts of recency.",
        metavar="S,P,L",
    )
    degree: int = option(
        1, "Reads drawn for each (layer, KV head, token) of the prompt's graph, for reach.", low=1, high=10**6
    )
    policy: str = "random"
    policy_parameters: Settings = ()

    def __post_init__(self) -> None:
        import numpy as np

        from routegraph.sim.decoding.policies import deaths

        check(self)
        boosts(self.recency)
        prompt = class_of(self.prompt_rows)
        if self.score_correlation + self.lasting > 1:
            raise ValueError(
                "score_correlation and lasting are shares of one variance, and must be at most 1 together; got "
                f"{self.score_correlation} and {self.lasting}"
            )
        if prompt is not None and self.score_correlation + prompt[2] > 1:
            raise ValueError(
                "score_correlation and the lasting share of prompt_rows must be at most 1 together; got "
                f"{self.score_correlation} and {prompt[2]}"
            )
        if self.interval > self.steps:
            raise ValueError(
                f"interval must be at most the number of steps, {self.steps}, or nothing is cut; got {self.interval}"
            )
        rows = self.n_prefill + self.steps
        check_free(
            ROW * rows * self.n_heads + READ * self.n_prefill * self.n_heads * self.degree, f"{rows:,} rows"
        )
        # The policy's own checks: of a prompt as long as the budget, and the steps up to the first cut.
        dry = self.slot(np.uint64(0), 1, 0, min(self.n_prefill, self.budget))
        deaths(self.policy, dry, **dict(self.policy_parameters))

    def slot(self, key: np.uint64, layer: int, head: int, n_prefill: int | None = None) -> Slot:
        """Return one slot of a run; of another prompt, and the steps up to the first cut, where n_prefill is given."""
        from routegraph.sim.decoding.slot import Attention, Slot

        attention = Attention(
            self.spread,
            self.persistence,
            self.decay,
            self.score_correlation,
            self.lasting,
            boosts(self.recency),
            class_of(self.prompt_rows),
        )
        short = n_prefill is not None
        return Slot(
            key,
            layer,
            head,
            self.n_prefill if n_prefill is None else n_prefill,
            self.interval if short else self.steps,
            self.budget,
            self.interval,
            attention,
        )

    @property
    def slots(self) -> int:
        """Slots of a token, n_layers * n_heads."""
        return self.n_layers * self.n_heads

    def to_dict(self) -> dict[str, Any]:
        """Return all but the policy and its parameters, which are told apart."""
        return {
            name: value for name, value in asdict(self).items() if name not in ("policy", "policy_parameters")
        }


def boosts(recency: str) -> tuple[tuple[int, float], ...]:
    """Return the (age, boost) pairs that a text like ``0:5,3:2.5,32:0`` names; none of an empty one.

    Raises
    ------
    ValueError
        If it is none, an age is no whole number or does not rise, a boost is not in [-`STEEPEST`, `STEEPEST`], or there
        are more than `STEPS`.
    """
    found: list[tuple[int, float]] = []
    for pair in recency.split(",") if recency else ():
        first, _, second = pair.partition(":")
        try:
            found.append((int(first), float(second)))
        except ValueError:
            raise ValueError(
                f"recency must be AGE:BOOST pairs like 0:5,3:2.5,32:0, got {recency!r}"
            ) from None
    ages = [age for age, _ in found]
    if any(age < 0 or age > MOST for age in ages) or any(b <= a for a, b in pairwise(ages)):
        raise ValueError(f"the ages of recency must rise from 0 or more, got {', '.join(map(str, ages))}")
    for _, boost in found:
        if not -STEEPEST <= boost <= STEEPEST:
            raise ValueError(f"a boost of recency must be in [-{STEEPEST}, {STEEPEST}], got {boost}")
    if len(found) > STEPS:
        raise ValueError(f"recency must have at most {STEPS} ages, got {len(found)}")
    return tuple(found)


def class_of(prompt_rows: str) -> tuple[float, float, float] | None:
    """Return the (spread, persistence, lasting) that a text like ``1.6,0.46,0.73`` names; None of an empty one.

    Raises
    ------
    ValueError
        If it is none, the spread is not in [0, 10], or one of the others not in [0, 1].
    """
    if not prompt_rows:
        return None
    try:
        spread, persistence, lasting = map(float, prompt_rows.split(","))
    except ValueError:
        raise ValueError(
            f"prompt_rows must be SPREAD,PERSISTENCE,LASTING like 1.6,0.46,0.73, got {prompt_rows!r}"
        ) from None
    if not (0 <= spread <= 10 and 0 <= persistence <= 1 and 0 <= lasting <= 1):
        raise ValueError(
            "of prompt_rows the spread must be in [0, 10], persistence and lasting in [0, 1]; got "
            f"{spread}, {persistence}, {lasting}"
        )
    return spread, persistence, lasting


def settings_of(policies: list[str], settings: Mapping[str, Any]) -> dict[str, Settings]:
    """Return which settings each policy takes, by its name.

    Raises
    ------
    ValueError
        If a policy is unknown, or none takes a setting.
    """
    from routegraph.sim.decoding.policies import resolved

    taken = {name: resolved(name)[1] for name in policies}
    for setting in settings:
        if not any(setting in known for known in taken.values()):
            choices = ", ".join(sorted({key for known in taken.values() for key in known})) or "none"
            named = ", ".join(map(repr, policies))
            raise ValueError(f"no parameter {setting!r} of policy {named}; choose from: {choices}")
    return {name: tuple((k, v) for k, v in settings.items() if k in taken[name]) for name in policies}
