"""Options that several commands share: each is declared once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer
from typer.core import TyperCommand

from routegraph import plugins
from routegraph.files import check_apart
from routegraph.options import Declared, check_whole, options

F = TypeVar("F", bound=Callable[..., Any])


def whole(text: str) -> int:
    """Return a whole number, or say what was got instead."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"must be a whole number, got {text!r}") from None


def real(text: str) -> float:
    """Return a number, or say what was got instead."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"must be a number, got {text!r}") from None


def count(help: str) -> Any:
    """Return an option that takes a whole number."""
    return typer.Option(parser=whole, metavar="N", help=help)


def share(help: str) -> Any:
    """Return an option that takes a number."""
    return typer.Option(parser=real, metavar="X", help=help)


#: Methods that come with routegraph, as options list them: kvpress's by their names, then cuts alone.
METHODS = (
    "expected_attention, snapkv, pyramidkv, knorm, tova, observed_attention, keydiff, lagkv, finch, cur, "
    "non_causal_attention, leverage, compactor, cap, streaming_llm, random; or a cut of expected_attention's scores: "
    "topk, adakv, chunk, chunkkv, pyramid; or streaming, bernoulli; or CUT@SCORER"
)


def method_help(said: str, many: bool = True) -> str:
    """Return the help of an option that takes the name of a method, or several."""
    return f"{said}. Methods: {METHODS}. A press's class (SnapKVPress) will do, too{'; repeatable' * many}."


Seed = Annotated[int, count("Seed of all random numbers.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw a figure (pdf, svg or png).")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the JSON document here.")]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Known name, local folder, GGUF file, or hub id.")
]
Dtype = Annotated[str, typer.Option(metavar="NAME", help="float32 or bfloat16.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="cpu or cuda.")]
Threads = Annotated[
    int | None,
    count(
        "Threads of torch, in each worker; by default half of the cores, with workers the cores shared out, with "
        "--dask ADDRESS one."
    ),
]
Workers = Annotated[
    int,
    count("Processes that compute items side by side, each with a model of its own; 1: this one alone."),
]
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="local|ADDRESS",
        help="Let the workers of a dask scheduler compute; ADDRESS is tcp://HOST:PORT.",
    ),
]
Tasks = Annotated[
    list[str],
    typer.Option(metavar="NAME", help="A task, a file of prompts, or 'bundled'; repeatable."),
]
Items = Annotated[
    int | None,
    typer.Option(
        "--n",
        "--limit",
        parser=whole,
        metavar="N",
        help="The first N prompts of each task or file; by default 100 of a task, all of a file.",
    ),
]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help=method_help("chunk, adakv, topk, snapkv, knorm, random, streaming by default"),
    ),
]
Presses = Annotated[
    list[str] | None,
    typer.Option(
        "--press",
        metavar="FILE.py:CLASS",
        help="A kvpress press of your own, which runs this file: it takes part as a method under its class's name; "
        "repeatable.",
    ),
]
Ratios = Annotated[
    list[float] | None,
    typer.Option(
        parser=real,
        metavar="RATIO",
        help="Share of the rows to remove, in [0, 1); by default 14 from 0 to .995; repeatable.",
    ),
]
Keep = Annotated[
    list[int] | None,
    typer.Option(
        parser=whole,
        metavar="N",
        help="Rows (tokens) that each slot keeps, in place of --ratio; repeatable.",
    ),
]
SkipDamaged = Annotated[
    bool,
    typer.Option(
        "--skip-damaged", help="Leave damaged cell files out, or work them out again; each is named."
    ),
]
Length = Annotated[int | None, count("Length of a task's contexts in tokens; the task's own by default.")]


def with_presses(names: Sequence[str], press: list[str] | None) -> list[str]:
    """Return names of methods or scorers, and those of a user's own presses that none of them goes by already."""
    if not press:
        return list(names)
    from routegraph.validate.presses.own import own_presses

    made = own_presses(press)
    told = {part for name in names for part in (name.partition("/")[0], name.partition("@")[2])}
    return [*names, *(name for name in made if name not in told)]


def ratios_of(ratio: list[float] | None, keep: list[int] | None, n: int) -> list[float] | None:
    """Return the ratios that were asked for, or those at which a slot of `n` rows keeps so many."""
    from routegraph.survival import ratio_keeping

    if not keep:
        return ratio or None
    if ratio:
        raise ValueError("give either --ratio or --keep, not both")
    for budget in keep:
        check_whole("keep", budget, low=1)
    return [ratio_keeping(n, budget) for budget in keep]


def takes(declaring: type, many: bool = False, without: Collection[str] = ()) -> Callable[[F], F]:
    """Return a decorator for a command of ``**options``: what a dataclass declares becomes its options.

    Parameters
    ----------
    declaring : type
        Dataclass with fields made by `routegraph.options.option`.
    many : bool
        Options may be repeated, and are lists, None where they are left out; switches stay switches.
    without : collection of str
        Declared options that mean nothing to the command.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        known = {*signature.parameters, *without}
        made = [_parameter(one, many) for one in options(declaring) if one.name not in known]
        first = [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.default is p.empty]
        last = [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.default is not p.empty]

        @functools.wraps(function)
        def command(*args: Any, **given: Any) -> Any:
            return function(*args, **given)

        command.__signature__ = signature.replace(parameters=[*first, *made, *last])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*first, *made, *last)}
        return cast(F, command)

    return decorate


def _parameter(one: Declared, many: bool) -> inspect.Parameter:
    """Return one declared option as a parameter that typer understands."""
    flag, said = one.name.replace("_", "-"), one.option.help
    kind: Any = one.type
    default: Any = one.default
    if one.type is bool:
        names = (f"--{flag}/--{one.option.off or 'no-' + flag}",) if default else (f"--{flag}",)
        made = typer.Option(*names, help=said)
    else:
        if one.range and one.option.low != 1:
            said = f"{said.rstrip('.')} ({one.range})."
        parsers = {int: whole, float: real}
        metavar = one.option.metavar or {int: "N", float: "X"}.get(one.type, "NAME")
        made = typer.Option(
            f"--{flag}",
            parser=parsers.get(one.type),
            metavar=metavar,
            help=said + " Repeatable." * many,
        )
        if many:
            kind, default = list[kind] | None, None
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, made]
    )


#: Parameters whose empty value says something: no system prompt, a reply that nothing ends, all that is registered, ...
EMPTY = ("system", "ask", "stop", "prompt", "together", "words")


class Command(TyperCommand):
    """A command that refuses what was given empty, as a shell makes it of a variable that is not set.

    An empty path would be the folder where the command runs, an empty name the default.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; BadParameter names one that is empty."""
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for one in self.params:
            value = given.get(one.name or "")
            if one.name not in EMPTY and "" in (value if isinstance(value, list | tuple) else [value]):
                shown = one.opts[-1] if one.opts[-1].startswith("-") else getattr(one, "metavar", one.name)
                raise typer.BadParameter("must not be empty", param_hint=f"'{shown}'")
        return super().parse_args(ctx, args)


#: Options that name files to write; everything else that names a file is read.
OUTPUTS = ("out", "html", "to", "plot")


def check_given(given: Mapping[str, Any]) -> None:
    """Refuse, of all that a command was given, a file to write that is also read, or is named by two options."""
    sources = []
    for name, value in given.items():
        if name not in OUTPUTS:
            listed = value if isinstance(value, list) else [value]
            sources += [str(one) for one in listed if isinstance(one, str | Path)]
    # A press is FILE.py:CLASS.
    sources += [source.rpartition(":")[0] for source in sources if ":" in source]
    check_apart({f"--{name}": given[name] for name in OUTPUTS if given.get(name) is not None}, sources)


def loads(function: F) -> F:
    """Give a command the option ``--load FILE.py``: what the files register is known before the command runs.

    Before that, outputs that would destroy what is read are refused: see `check_given`.
    """
    signature = inspect.signature(function, eval_str=True)
    load = inspect.Parameter(
        "load",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            list[Path] | None,
            typer.Option(
                metavar="FILE.py", help="Register what this file declares (policies, ...); repeatable."
            ),
        ],
    )
    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in signature.parameters.values()]

    @functools.wraps(function)
    def command(*, load: list[Path] | None = None, **given: Any) -> Any:
        check_given({**given, "load": load})
        for path in load or ():
            plugins.load(path)
        return function(**given)

    command.__signature__ = signature.replace(parameters=[*parameters, load])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*parameters, load)}
    return cast(F, command)
