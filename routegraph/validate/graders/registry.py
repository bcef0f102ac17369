"""Which graders there are, and one of them by its name with its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from routegraph.registry import Registry

#: Graders by name: functions ``(reply, golds, choices, *, parameters) -> score`` in [0, 1]. One with a parameter
#: `threshold` calls a reply right from there on, others at 1.
graders = grader = Registry("grader")

#: What judges replies where neither the user nor the prompt names a grader.
DEFAULT = "contains"
#: What judged them in earlier versions, whose settings name none.
FORMER = "prefix"


@dataclass(frozen=True)
class Grader:
    """A grader with its parameters.

    Attributes
    ----------
    name : str
        As it was asked for, parameters included.
    function : callable
    parameters : mapping
        Those that were set.
    threshold : float
        A reply is right where its score is at least this.
    """

    name: str
    function: Callable[..., float]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    threshold: float = 1.0

    @classmethod
    def named(cls, told: str) -> Grader:
        """Return a grader by its name, or by NAME:PARAMETER=VALUE,PARAMETER=VALUE.

        Raises
        ------
        ValueError
            If there is none of this name, or it takes no such parameter.
        """
        name, _, rest = told.partition(":")
        function, defaults = graders[name], graders.parameters(name)
        given: dict[str, Any] = {}
        for setting in filter(None, rest.split(",")):
            key, _, value = (part.strip() for part in setting.partition("="))
            given[key] = _as(type(defaults.get(key)), value)
        graders.check_parameters(name, given)
        threshold = float({**defaults, **given}.get("threshold", 1.0))
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold of grader {name!r} must be in (0, 1], got {threshold:g}")
        return cls(told, function, given, threshold)

    def score(self, reply: str, golds: Sequence[str], choices: Sequence[str] = ()) -> float:
        """Return what a reply is worth, from 0 to 1.

        Raises
        ------
        ValueError
            If the golds are none that this grader can match replies by, or it gives no such number.
        """
        score = float(self.function(reply, tuple(golds), tuple(choices), **self.parameters))
        if not 0 <= score <= 1:
            raise ValueError(f"grader {self.name!r} must give a score in [0, 1], got {score}")
        return score

    def right(self, score: float) -> bool:
        """Return whether a score is that of a right reply."""
        return score >= self.threshold


def _as(kind: type, value: str) -> Any:
    """Return a parameter's value, by the type of its default; as it is where it is no such value."""
    words: dict[str, Any] = {"true": True, "false": False}
    if kind is bool:
        return words.get(value.casefold(), value)
    if kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            return value
    return value


def grader_setting(named: str) -> str:
    """Return what settings say of the grader asked for; empty: each prompt's own, else the default one."""
    return named or f"own, else {DEFAULT}"
