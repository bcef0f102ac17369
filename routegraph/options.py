"""Options, each declared once: a field of a frozen dataclass that carries its help, its range and its choices.

The command line, the signatures of functions, their checks and the documentation are made from the declaration.
"""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import Any, TypeVar, get_type_hints

F = TypeVar("F", bound=Callable[..., Any])
_KEY = "option"


@dataclass(frozen=True)
class Option:
    """What is said of an option besides its name, type and default.

    Attributes
    ----------
    help : str
        One sentence.
    low, high, above : float or None
        Least and greatest value; bound that it must exceed.
    choices : tuple of str
        Of a word; none: any, or checked where it is looked up.
    noun : str
        What an error calls a word that is none of the choices; the option's name by default.
    metavar : str
        What stands for the value in help; by type by default.
    off : str
        Of a switch that is on by default: the name of the option that turns it off ("no-" and its name by default).
    """

    help: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    noun: str = ""
    metavar: str = ""
    off: str = ""


@dataclass(frozen=True)
class Declared:
    """An option as it was declared.

    Attributes
    ----------
    name : str
    type : type
        int, float, str or bool.
    default : int, float, str or bool
    option : Option
    """

    name: str
    type: type
    default: Any
    option: Option

    @property
    def range(self) -> str:
        """Which values are taken, in words; nothing where all of the type are."""
        one = self.option
        if one.choices:
            return ", ".join(one.choices)
        if one.low is not None and one.high is not None:
            return f"{one.low:g} to {one.high:g}"
        if one.low is not None:
            return f"at least {one.low:g}"
        return "" if one.above is None else f"above {one.above:g}"

    def check(self, value: Any) -> None:
        """Raise ValueError, naming the value and what is taken, unless it may be had."""
        name, one = self.name, self.option
        if self.type is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be True or False, got {value!r}")
        elif self.type is int and name == "seed":
            check_seed(value)
        elif self.type is int:
            check_whole(name, value, one.low, one.high)
        elif self.type is float:
            _check_number(name, value, one)
        elif one.choices and value not in one.choices:
            raise ValueError(f"unknown {one.noun or name} {value!r}; choose from: {', '.join(one.choices)}")


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    noun: str = "",
    metavar: str = "",
    off: str = "",
) -> Any:
    """Declare an option: the default of a field of a frozen dataclass; see `Option`."""
    return field(
        default=default, metadata={_KEY: Option(help, low, high, above, choices, noun, metavar, off)}
    )


def options(declaring: type) -> Iterator[Declared]:
    """Yield the options that a dataclass declares, in their order."""
    types = get_type_hints(declaring)
    for one in fields(declaring):
        if _KEY in one.metadata:
            yield Declared(one.name, types[one.name], one.default, one.metadata[_KEY])


def check(instance: Any) -> None:
    """Raise ValueError unless every option of a dataclass has a value it may have."""
    for one in options(type(instance)):
        one.check(getattr(instance, one.name))


#: No count of anything is larger: what would take for ever is refused at once.
MOST = 10**12


def check_whole(name: str, value: Any, low: float | None = None, high: float | None = None) -> None:
    """Raise ValueError, naming the value, unless it is a whole number from `low` to `high`, by default `MOST`."""
    whole = not isinstance(value, bool) and isinstance(value, Integral)
    if not whole or (low is not None and value < low):
        least = "" if low is None else f" of at least {low:g}"
        raise ValueError(f"{name} must be a whole number{least}, got {value!r}")
    most = MOST if high is None else high
    if value > most:
        raise ValueError(f"{name} must be at most {most:,.0f}, got {value!r}")


def check_seed(seed: Any) -> None:
    """Raise ValueError, naming the value, unless it is a whole number of at least 0, however large."""
    check_whole("seed", seed, low=0, high=math.inf)


def takes(declaring: type, many: bool = False, without: Collection[str] = ()) -> Callable[[F], F]:
    """Return a decorator for a function of ``**options``: its signature and docstring name every declared option.

    An option that the function names itself keeps its place. In the docstring, the line ``**options`` of the section
    "Parameters" is followed by all of them. With `many`, each may also be a list of values; those in `without` mean
    nothing to the function.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = dict(signature.parameters)
        rest = next(p for p in own.values() if p.kind is p.VAR_KEYWORD)
        del own[rest.name]
        more = {
            one.name: inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=one.default,
                annotation=Any if many else one.type,
            )
            for one in options(declaring)
            if one.name not in (*own, *without)
        }
        first = [p for p in own.values() if p.kind is not p.KEYWORD_ONLY]
        last = [p for p in own.values() if p.kind is p.KEYWORD_ONLY]
        function.__signature__ = signature.replace(parameters=[*first, *more.values(), *last])  # type: ignore[attr-defined]
        function.__doc__ = _documented(function.__doc__ or "", rest.name, declaring, set(more))
        return function

    return decorate


def check_names(function: str, declaring: type, given: dict[str, Any], without: Collection[str] = ()) -> None:
    """Raise TypeError, as Python would, for a keyword that is no declared option."""
    known = {one.name for one in options(declaring)} - set(without)
    for name in given:
        if name not in known:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


def _documented(doc: str, rest: str, declaring: type, names: set[str]) -> str:
    lines = []
    for one in options(declaring):
        if one.name in names:
            taken = f" ({one.range})" if one.range else ""
            lines += [f"{one.name} : {one.type.__name__}{taken}", f"    {one.option.help}"]
    marker = f"    **{rest}\n"
    return doc.replace(marker, marker + textwrap.indent("\n".join(lines), " " * 4) + "\n", 1)


def _check_number(name: str, value: Any, one: Option) -> None:
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, got {value!r}") from None
    if one.low is not None and one.high is not None:
        if not one.low <= number <= one.high:
            raise ValueError(f"{name} must be in [{one.low:g}, {one.high:g}], got {value}")
    elif one.above is not None:
        if not number > one.above:
            raise ValueError(f"{name} must be above {one.above:g}, got {value}")
        if not math.isfinite(number):
            raise ValueError(f"{name} must be a finite number, got {value}")
    elif not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value}")
