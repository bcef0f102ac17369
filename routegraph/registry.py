"""Named functions: policies, ensembles, observables and model families are registered, never hard-wired."""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

#: What a parameter may be, by the type of its default.
_TYPES = (
    (bool, (bool,), "True or False"),
    (int, (int,), "a whole number"),
    (float, (int, float), "a number"),
    (str, (str,), "a word"),
)
#: Entry points under this name are modules that register something.
PLUGINS = "routegraph.plugins"
#: Where registered functions come from that routegraph brings.
BUILT_IN = "routegraph"

F = TypeVar("F", bound=Callable[..., Any])

#: Where what is being registered comes from, and what was; None: told by the function's own module.
_source: ContextVar[tuple[str, list[str]] | None] = ContextVar("source", default=None)
#: Whether what installed packages offer has been imported.
_installed = False


class Registry(Mapping[str, Callable[..., Any]]):
    """A mapping from names to functions, filled by a decorator.

    A name that is not there is looked for in installed plug-ins; listing the names looks for all of theirs.

    Parameters
    ----------
    kind : str
        What is registered ("policy", "ensemble", ...); used in error messages.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._functions: dict[str, Callable[..., Any]] = {}
        self._origins: dict[str, str] = {}

    def __call__(self, name: str) -> Callable[[F], F]:
        """Return a decorator that registers a function under `name`."""

        def register(function: F) -> F:
            taken = self._functions.get(name)
            # The same function again (a module reloaded, a notebook cell run twice) is welcome.
            if taken is not None and _home(taken) != _home(function):
                raise ValueError(f"{self.kind} {name!r} is already registered")
            self._functions[name] = function
            self._origins[name] = self._told_origin(name, function)
            return function

        return register

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in self._functions:
            load_installed()
        try:
            return self._functions[name]
        except KeyError:
            choices = ", ".join(sorted(self._functions))
            raise ValueError(f"unknown {self.kind} {name!r}; choose from: {choices}") from None

    def __contains__(self, name: object) -> bool:
        if name not in self._functions:
            load_installed()
        return name in self._functions

    def __iter__(self) -> Iterator[str]:
        load_installed()
        return iter(sorted(self._functions))

    def __len__(self) -> int:
        load_installed()
        return len(self._functions)

    def origin(self, name: str) -> str:
        """Return where `name` comes from: "routegraph", a file, an installed package, or a module."""
        self[name]
        return self._origins.get(name, BUILT_IN)

    def _told_origin(self, name: str, function: Callable[..., Any]) -> str:
        # Of our own modules, which a plug-in may be the first to import, a plug-in is not the origin.
        if function.__module__.partition(".")[0] == BUILT_IN:
            return BUILT_IN
        source = _source.get()
        if source is None:
            return function.__module__
        source[1].append(f"{self.kind} {name}")
        return source[0]

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


@contextlib.contextmanager
def registering(origin: str) -> Iterator[list[str]]:
    """Note that what is registered inside comes from `origin`; yields the list of it, as it grows."""
    names: list[str] = []
    token = _source.set((origin, names))
    try:
        yield names
    finally:
        _source.reset(token)


def load_installed() -> None:
    """Import the modules that installed packages offer under the entry-point group ``routegraph.plugins``.

    Raises
    ------
    ValueError
        If one cannot be imported, or registers a name that is taken; the package is named.
    """
    global _installed
    if _installed:
        return
    _installed = True  # before: what is imported now may look a name up
    for point in importlib.metadata.entry_points(group=PLUGINS):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        try:
            with registering(package), contextlib.redirect_stdout(sys.stderr):
                point.load()
        except Exception as error:
            _installed = False
            words = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"plug-in {point.name!r} of package {package} cannot be loaded: {words}; mend or uninstall it"
            ) from None


def _home(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__
