"""The command line: typer for arguments, rich for tables; results to stdout, everything else to stderr."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="routegraph",
    help="How far can a KV cache be compressed before its routes break?",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
model_app = typer.Typer(help="Models that need no hub.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(model_app, name="model")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"must be a whole number, got {text!r}") from None


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"must be a number, got {text!r}") from None


def _count(help: str) -> Any:
    return typer.Option(parser=_whole, metavar="N", help=help)


Ratios = Annotated[
    list[float], typer.Option(parser=_real, metavar="RATIO", help="Compression ratio in [0, 1); repeatable.")
]
Seed = Annotated[int, _count("Seed of all random numbers.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of tables.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw a figure (pdf, svg or png).")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Known name, local folder, or hub id.")]


def _version(value: bool) -> None:
    if value:
        from routegraph import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Command group."""


@app.command()
def simulate(
    n_tokens: Annotated[int, _count("Cache rows; the query is one more position after them.")] = 4096,
    ratio: Ratios = [0.9],  # noqa: B006
    n_layers: Annotated[int, _count("Layers.")] = 32,
    n_heads: Annotated[int, _count("KV heads a layer.")] = 8,
    degree: Annotated[int, _count("Reads of each (layer, KV head, token).")] = 1,
    ensemble: Annotated[str, typer.Option(metavar="NAME", help="Where the reads fall.")] = "uniform",
    policy: Annotated[str, typer.Option(metavar="NAME", help="Which rows are evicted first.")] = "random",
    score_correlation: Annotated[
        float,
        typer.Option(parser=_real, metavar="RHO", help="Correlation of a token's scores between slots."),
    ] = 0.0,
    prune: Annotated[str, typer.Option(metavar="NAME", help="columns or decode.")] = "columns",
    residual: Annotated[bool, typer.Option(help="Let a token carry itself down a layer.")] = True,
    n_answers: Annotated[int, _count("Answer tokens drawn in each replicate.")] = 8,
    replicates: Annotated[int, _count("Independent graphs.")] = 32,
    seed: Seed = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Parameter of the ensemble or policy; repeatable."),
    ] = None,
    json_: Json = False,
    plot: Plot = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the JSON document here.")] = None,
) -> None:
    """Simulate token-attention graphs under eviction, theory beside it."""
    from routegraph import files
    from routegraph.plot import check_figure_path, save

    if plot is not None:
        check_figure_path(plot)
    if out is not None:
        files.check_writable(out)
    settings = parse_settings(setting or [])
    from routegraph.sim.run import simulate as run

    with progress("replicates") as advance:
        result = run(
            n_tokens,
            ratio,
            n_layers=n_layers,
            n_heads=n_heads,
            degree=degree,
            ensemble=ensemble,
            policy=policy,
            score_correlation=score_correlation,
            prune=prune,
            residual=residual,
            n_answers=n_answers,
            replicates=replicates,
            seed=seed,
            settings=settings,
            progress=advance,
        )
    if out is not None:
        files.write_json(out, result.to_dict())
        note(f"wrote {out}")
    if plot is not None:
        from routegraph.sim.figures import plot_simulation

        save(plot_simulation(result), plot)
        note(f"drew {plot}")
    if json_:
        print_json(result.to_dict())
    else:
        from routegraph import views

        views.simulation(console(), result)


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Return NAME=VALUE pairs as a dictionary; values are Python literals, or text."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise ValueError(f"--set takes NAME=VALUE, got {setting!r}")
        try:
            parsed[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed[name] = value
    return parsed


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def console(stderr: bool = False) -> Console:
    """Return a console on stdout (results) or stderr (everything else)."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=False)


def note(text: str) -> None:
    """Say something on stderr."""
    sys.stderr.write(text + "\n")


@contextmanager
def progress(label: str) -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr where that is a terminal; yields a function of (done, total, [label])."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total, text=label: bar.update(task, completed=done, total=total, description=text)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exit status 0 done, 2 bad input, 1 failure, always one plain line on stderr."""
    command = typer.main.get_command(app)
    try:
        status = command.main(args=arguments, prog_name="routegraph", standalone_mode=False)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        status = fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except ValueError as error:
        status = fail(str(error), 2)
    except MemoryError as error:
        status = fail(f"not enough memory: {error}", 1)
    except OSError as error:
        named = f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error)
        status = fail(named, 1)
    except Exception as error:
        # Usage errors; their class has no public name, but all of them can format themselves.
        if not hasattr(error, "format_message"):
            raise
        text = error.format_message()
        if text.startswith("Usage:"):
            sys.stderr.write(text + "\n")
            status = 2
        else:
            status = fail(text, 2)
    sys.exit(status if isinstance(status, int) else 0)


def fail(message: str, status: int) -> int:
    """Print one plain line on stderr and return the exit status."""
    sys.stderr.write("error: " + " ".join(message.split()) + "\n")
    return status


if __name__ == "__main__":
    main()
