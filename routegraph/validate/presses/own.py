"""A press of a user's own, named by its file and class: what it scores by is registered under the class's name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from routegraph import plugins
from routegraph.policies import policies
from routegraph.validate.models.sources import check_installed
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.methods import classes, vocabulary
from routegraph.validate.presses.prefill import plain_errors
from routegraph.validate.presses.scorers import OTHERS, SCORERS, check_press

#: Values of a press that a result keeps.
_PLAIN = (bool, int, float, str)


def own_presses(named: Iterable[str]) -> list[str]:
    """Register some presses, "FILE.py:CLASS" each; returns the classes' names: see `own_press`."""
    return list(dict.fromkeys(own_press(one) for one in named))


def own_press(named: str) -> str:
    """Run a file and register one of its kvpress presses as a scorer, under the name of its class.

    The name alone is then a method, the press as it is; ``adakv@NAME`` lets the heads of a layer compete. What is
    measured with it knows the file by a digest of its text.

    Parameters
    ----------
    named : str
        "FILE.py:CLASS", a ScorerPress with a ``score`` of its own, which can be made without arguments.

    Returns
    -------
    str
        The class's name.

    Raises
    ------
    ValueError
        If there is no such file or class, it cannot be run, the class is no press that scores rows and cuts the lowest,
        or its name is taken by a method already.
    """
    path, colon, name = named.rpartition(":")
    if not colon or not path or not name.isidentifier():
        raise ValueError(f"a press is named FILE.py:CLASS, got {named!r}")
    check_installed()
    kvpress()  # before the file imports it, which would wrap the attention of all models

    plugins.load(path, _Press(name))
    return name


@dataclass(frozen=True)
class _Press:
    """Registers a press of a file; can be sent to another process."""

    name: str

    def __call__(self, module: Any) -> None:
        """Register the press; ValueError if there is none."""
        found = getattr(module, self.name, None)
        if not isinstance(found, type):
            there = [key for key, value in vars(module).items() if _is_own(value, module)]
            raise ValueError(f"it has no class {self.name!r}; its presses: {', '.join(there) or 'none'}")
        _check_class(found)
        built_in = {one.name for one in vocabulary() if one.built_in}
        if self.name in {*classes(), *OTHERS, *policies, *built_in}:
            raise ValueError(f"{self.name!r} is the name of a method already; call the class otherwise")
        SCORERS(self.name)(_maker(found, module.__name__))


def _is_own(value: Any, module: Any) -> bool:
    """Return whether a value is a press's class that a file itself declares."""
    own = isinstance(value, type) and value.__module__ == module.__name__
    return own and issubclass(value, kvpress().BasePress)


def _check_class(found: Any) -> None:
    """Raise ValueError unless a class is a press that scores rows and cuts the lowest, and can be made."""
    name, scorer = found.__name__, kvpress().ScorerPress
    if not issubclass(found, kvpress().BasePress):
        raise ValueError(f"{name} is no press of kvpress; it must inherit from ScorerPress")
    if not issubclass(found, scorer) or found.score is scorer.score:
        raise ValueError(
            f"{name} does not score: it must inherit from ScorerPress and have a score of its own"
        )
    for part in ("compress", "forward_hook", "__call__"):
        if getattr(found, part) is not getattr(scorer, part):
            raise ValueError(
                f"{name} does not only score and cut: it has a {part} of its own, so that what it keeps does not "
                "follow from its scores; routegraph.validate.presses.survivors tells what it keeps"
            )
    try:
        with plain_errors(found):
            made = found()
    except TypeError as error:
        raise ValueError(f"{name} cannot be made without arguments: {error}") from None
    check_press(made)


def _maker(found: type, module: str) -> Any:
    """Return a function of no arguments that makes a press; its signature tells the press's plain parameters."""

    def make() -> Any:
        return found()

    make.__doc__ = (inspect.getdoc(found) or "").partition("\n")[0] or "A press of a user's own."
    make.__name__ = make.__qualname__ = found.__name__
    make.__module__ = module
    make.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value)
            for name, value in vars(found()).items()
            if isinstance(value, _PLAIN) and not name.startswith("_") and name != "compression_ratio"
        ]
    )
    return make
