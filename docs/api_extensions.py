"""For the API pages, extensions of griffe, which reads the source only.

Functions whose signature and docstring are made from declared options are shown as they are made; what a module only
hands on from another one is shown where it is at home; and a power in a docstring is no bold type.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import griffe


class DeclaredOptions(griffe.Extension):
    """Take the signature and the docstring of what is decorated with `takes` from the function itself."""

    def on_function_instance(self, *, func: griffe.Function, **kwargs: Any) -> None:
        """Replace what the source says of one function."""
        if not any(str(one.value).startswith("takes(") for one in func.decorators):
            return
        made = getattr(importlib.import_module(func.module.path), func.name)
        if func.docstring is not None:
            # The line **options is only the place where the options were put.
            func.docstring.value = re.sub(r"^\*\*\w+\n", "", inspect.getdoc(made) or "", flags=re.MULTILINE)
        written = {one.name: one for one in func.parameters}
        signature = inspect.signature(made).parameters.values()
        func.parameters = griffe.Parameters(*(_parameter(one, written.get(one.name)) for one in signature))


class AtHome(griffe.Extension):
    """Show nothing twice: a name that a module imports is not one of its own, even where `__all__` lists it."""

    def on_module_members(self, *, mod: griffe.Module, **kwargs: Any) -> None:
        """Leave imported names out of what a module exports."""
        if mod.exports is not None and not mod.is_init_module:
            mod.exports = [
                name
                for name in mod.exports
                if not (str(name) in mod.members and mod.members[str(name)].is_alias)
            ]


class Formulas(griffe.Extension):
    """Let n**(1/L), a* and (a[, b][, c]) stand in docstrings as they are written, not as marks of Markdown."""

    STARS = re.compile(r"(?<=[\w)\]])\*\*(?=[\w(-])|(?<=\b[a-z])\*(?![\w*])")

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Escape stars and brackets of formulas outside of code."""
        if obj.docstring is None:
            return
        lines = obj.docstring.value.split("\n")
        obj.docstring.value = "\n".join(line if ">>>" in line else self._escaped(line) for line in lines)

    def _escaped(self, line: str) -> str:
        parts = line.split("`")  # every second one is code
        parts[::2] = [self.STARS.sub(lambda stars: stars[0].replace("*", "\\*"), part) for part in parts[::2]]
        parts[::2] = [part.replace("][", "]\\[") for part in parts[::2]]
        return "`".join(parts)


def _parameter(one: inspect.Parameter, written: griffe.Parameter | None) -> griffe.Parameter:
    """Return a parameter as it was made, with the annotation that was written."""
    annotation = one.annotation if isinstance(one.annotation, str) else one.annotation.__name__
    return griffe.Parameter(
        one.name,
        annotation=annotation if written is None else written.annotation,
        kind=griffe.ParameterKind.keyword_only if written is None else written.kind,
        default=None if one.default is one.empty else repr(one.default),
    )
