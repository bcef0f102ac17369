"""Plug-ins: files and installed packages that register what is theirs.

`load` takes a file, as ``--load FILE.py`` does. An installed package offers a module under the entry-point group
``routegraph.plugins``; it is imported when a name is asked for that is not known otherwise, or when all are listed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from routegraph import registry
from routegraph.files import digest

#: Called with a file's module, to register what the file does not register itself.
Register = Callable[[types.ModuleType], None]

_loaded: dict[str, Source] = {}


@dataclass(frozen=True)
class Source:
    """A file that was loaded: what another process needs to load it, too.

    Attributes
    ----------
    path : str
        Where it was; for messages only.
    text : str
        What stood in it.
    registers : tuple of callable
        What registered more of its module than it does itself; where other processes load it, too, these can be
        pickled.
    """

    path: str
    text: str
    registers: tuple[Register, ...] = field(default=(), compare=False)

    @property
    def module(self) -> str:
        """Name of the module that it becomes: files of one name in two folders are two modules."""
        whole = hashlib.sha256(os.path.abspath(self.path).encode()).hexdigest()[:8]
        return f"routegraph_loaded_{whole}_{Path(self.path).stem}"


def load(path: str | os.PathLike[str], register: Register | None = None) -> list[str]:
    """Run a Python file and register what it declares.

    Parameters
    ----------
    path : path
        File with functions decorated by `policy`, `ensemble`, `observable`, ... Loaded before: it is not run again.
    register : callable, optional
        Called with the file's module, to register what the file does not register itself.

    Returns
    -------
    list of str
        What it registered, "policy mine" for example.

    Raises
    ------
    ValueError
        If it cannot be read or run, registers nothing, or a name that is taken; one sentence that names the file.
    """
    name = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"no plug-in file {name!r}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise ValueError(f"plug-in file {name!r} cannot be read: {why}") from None
    return _run(Source(name, text), register)


def loaded() -> tuple[Source, ...]:
    """Return every file loaded in this process, in order: what a worker elsewhere needs."""
    return tuple(_loaded.values())


def ensure(sources: Iterable[Source]) -> None:
    """Load in this process what was loaded in another, from its text; what is here already is left alone."""
    for source in sources:
        known = _loaded.get(source.module)
        done = known.registers if known == source else ()
        for register in source.registers or (None,):
            if register not in done:
                _run(source, register)


def fingerprints(functions: Iterable[Callable[..., Any]]) -> dict[str, str]:
    """Return the loaded files that some registered functions come from, by name, with a digest of their text.

    A result says with it what it was computed with: a file that has changed since gives other results.
    """
    texts: dict[str, set[str]] = {}
    for function in functions:
        if source := _loaded.get(function.__module__):
            texts.setdefault(Path(source.path).name, set()).add(source.text)
    return {name: digest(sorted(found)) for name, found in texts.items()}


def _run(source: Source, register: Register | None = None) -> list[str]:
    known = _loaded.get(source.module)
    if known == source:
        if register is None:
            return []
        with registry.registering(source.path) as names:
            _registered(register, sys.modules[source.module], source)
        if register not in known.registers:
            _loaded[source.module] = replace(known, registers=(*known.registers, register))
        return names
    module = types.ModuleType(source.module)
    module.__file__ = source.path
    before = sys.modules.get(source.module)
    sys.modules[source.module] = module
    try:
        # What a file prints is no part of a result.
        with registry.registering(source.path) as names, contextlib.redirect_stdout(sys.stderr):
            exec(compile(source.text, source.path, "exec"), module.__dict__)
            if register is not None:
                register(module)
        if not names:
            raise ValueError(
                "it registers nothing; decorate a function with @policy, @ensemble, @observable, ..."
            )
    except (Exception, SystemExit) as error:
        if before is None:
            del sys.modules[source.module]
        else:
            sys.modules[source.module] = before
        raise ValueError(
            f"plug-in file {source.path!r} cannot be loaded: {_why(error, source.path)}"
        ) from None
    _loaded[source.module] = replace(source, registers=() if register is None else (register,))
    return names


def _registered(register: Register, module: types.ModuleType, source: Source) -> None:
    """Register more of a module that is there; ValueError in one sentence that names the file."""
    try:
        register(module)
    except ValueError as error:
        raise ValueError(f"plug-in file {source.path!r} cannot be loaded: {error}") from None


def _why(error: BaseException, path: str) -> str:
    """Return what an error says in one line, with its kind and the line of the file where that helps."""
    words = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return words
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{type(error).__name__}: {words}" + (f" (line {line})" if line else "")
