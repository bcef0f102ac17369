"""The commands `model list`, `model get` and `model train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from routegraph.cli.options import Json, Seed, count, share
from routegraph.cli.terminal import console, note, print_json, progress

if TYPE_CHECKING:
    from routegraph.validate.train.curriculum import State


def model_list(json_: Json = False) -> None:
    """Show the models that need no hub."""
    from routegraph.validate.models import load

    found = load.model_list()
    if json_:
        print_json(found)
        return
    from routegraph.tables import Grid

    columns = ["name", "what it is", "family", "licence", "from", "disk", "cached"]
    keys = ("name", "summary", "family", "licence", "origin")
    rows = [
        [*(m[key] for key in keys), f"{m['megabytes']} MB", "yes" if m["cached"] else "no"] for m in found
    ]
    console().print(Grid(columns, rows, right_from=5).to_rich())


def model_get(name: Annotated[str, typer.Argument(metavar="NAME", help="One of `model list`.")]) -> None:
    """Fetch a model into the cache folder and convert it once; prints where it is."""
    from routegraph.validate.models import load

    with progress(f"model {name}") as advance:
        folder = load.get_model(name, progress=advance)
    typer.echo(folder)


def model_train(
    name: Annotated[str, typer.Argument(metavar="NAME", help="llama-tiny or qwen-tiny.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the model; gone on with where it is there.")
    ],
    seed: Seed = 0,
    minutes: Annotated[
        float, share("Processor time of the training at most; judging takes two minutes more.")
    ] = 15.0,
    abstention: Annotated[
        bool,
        typer.Option("--abstention/--no-abstention", help="Teach it to say <idk>, or let it make things up."),
    ] = True,
    words: Annotated[
        int, count("Most words of a context it is taught, 96 to 480; it is judged on up to 96.")
    ] = 96,
    items: Annotated[int, count("Items a task that it is judged by.")] = 600,
    json_: Json = False,
) -> None:
    """Train a tiny model on the word-level tasks from scratch, on one core, and judge it; status 1 if refused."""
    from routegraph.validate.train.curriculum import Recipe

    recipe = Recipe(name, seed, minutes, abstention, words)
    if items < 1:
        raise ValueError(f"items must be at least 1, got {items}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"cannot write {str(out)!r}: it is a file")
    from routegraph.validate.models.load import load, use_threads
    from routegraph.validate.train.accept import COLUMNS, accept
    from routegraph.validate.train.card import write_card
    from routegraph.validate.train.run import train

    use_threads(1)
    record = train(recipe, out, _tell)
    model = load(out)
    with progress("items") as advance:
        acceptance = accept(model, abstention, items, report=advance)
    write_card(out, record, acceptance, model.model.config)
    if json_:
        print_json({"training": record, "acceptance": acceptance.to_dict()})
    else:
        from routegraph.tables import Grid

        title = f"{name}, seed {seed}, {record['minutes']:.1f} min, attempt {record['attempts']}"
        console().print(Grid(COLUMNS, acceptance.rows(), title, right_from=2).to_rich())
    note(f"{out}: {acceptance.verdict}")
    if not acceptance.accepted:
        raise typer.Exit(1)


def _tell(state: State) -> None:
    """Say how far a training is, on stderr."""
    shares = ", ".join(
        f"{kind.replace('_', ' ')} {share:.2f}" for kind, share in state.right.items() if share
    )
    attempt = f" of attempt {state.attempt + 1}" if state.attempt else ""
    note(f"{state.seconds / 60:5.1f} min, {state.stage}, step {state.step}{attempt}: {shares}")
