"""The command line put together: results to stdout, everything else to stderr."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from routegraph.cli import (
    audit,
    certify,
    claims,
    compare,
    decode,
    diagram,
    extract,
    files,
    fit,
    inspect,
    measure,
    model,
    noise,
    predict,
    probe,
    prompts,
    simulate,
    sweep,
    task,
)
from routegraph.cli.options import Command, loads
from routegraph.cli.terminal import run

app = typer.Typer(
    name="routegraph",
    help="How far can a KV cache be compressed before its routes break?",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)
model_app = typer.Typer(
    help="List, fetch and train models that need no hub.", rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(model_app, name="model")


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


#: Commands in the order in which help names them.
COMMANDS: dict[str, Callable[..., None]] = {
    "simulate": simulate.simulate,
    "decode": decode.decode,
    "sweep": sweep.sweep,
    "fit": fit.fit,
    "task": task.task,
    "prompts": prompts.prompts,
    "predict": predict.predict,
    "measure": measure.measure,
    "noise": noise.noise,
    "diagram": diagram.diagram,
    "certify": certify.certify,
    "audit": audit.audit,
    "extract": extract.extract,
    "inspect": inspect.inspect,
    "compare": compare.compare,
    "report": compare.report,
    "claims": claims.claims,
    "probe": probe.probe,
    "list": files.list_,
    "export": files.export,
    "replay": files.replay,
}
for _name, _function in COMMANDS.items():
    app.command(_name, cls=Command)(loads(_function))
for _name, _function in (("list", model.model_list), ("get", model.model_get), ("train", model.model_train)):
    model_app.command(_name, cls=Command)(_function)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    run(app, arguments)
