"""Named functions: policies, ensembles, observables and model families are registered, never hard-wired."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

#: What a parameter may be, by the type of its default.
_TYPES = (
    (bool, (bool,), "True or False"),
    (int, (int,), "a whole number"),
    (float, (int, float), "a number"),
    (str, (str,), "a word"),
)

F = TypeVar("F", bound=Callable[..., Any])


class Registry(Mapping[str, Callable[..., Any]]):
    """A mapping from names to functions, filled by a decorator.

    Parameters
    ----------
    kind : str
        What is registered ("policy", "ensemble", ...); used in error messages.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._functions: dict[str, Callable[..., Any]] = {}

    def __call__(self, name: str) -> Callable[[F], F]:
        """Return a decorator that registers a function under `name`."""

        def register(function: F) -> F:
            taken = self._functions.get(name)
            # The same function again (a module reloaded, a notebook cell run twice) is welcome.
            if taken is not None and _home(taken) != _home(function):
                raise ValueError(f"{self.kind} {name!r} is already registered")
            self._functions[name] = function
            return function

        return register

    def __getitem__(self, name: str) -> Callable[..., Any]:
        try:
            return self._functions[name]
        except KeyError:
            choices = ", ".join(sorted(self._functions))
            raise ValueError(f"unknown {self.kind} {name!r}; choose from: {choices}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._functions

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._functions))

    def __len__(self) -> int:
        return len(self._functions)

    def parameters(self, name: str) -> dict[str, Any]:
        """Return the keyword parameters that users may set on `name`, with their defaults.

        Parameters without a default are supplied by the caller (sizes, keys, scores) and left out.
        """
        signature = inspect.signature(self[name])
        return {
            parameter.name: parameter.default
            for parameter in signature.parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
        }

    def check_parameters(self, name: str, given: Mapping[str, Any]) -> None:
        """Raise ValueError if `name` is unknown, does not take a given parameter, or not of that type."""
        taken = self.parameters(name)
        for parameter, value in given.items():
            if parameter not in taken:
                choices = ", ".join(taken) or "none"
                raise ValueError(
                    f"{self.kind} {name!r} takes no parameter {parameter!r}; choose from: {choices}"
                )
            default = taken[parameter]
            for kind, accepted, words in _TYPES:
                if type(default) is kind and (type(value) not in accepted):
                    raise ValueError(f"{parameter} of {self.kind} {name!r} must be {words}, got {value!r}")

    def summary(self, name: str) -> str:
        """Return the first line of the docstring of `name`."""
        return (inspect.getdoc(self[name]) or "").partition("\n")[0]


def _home(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__
