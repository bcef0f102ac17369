"""The commands `model list`, `model get` and `model train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from routegraph.cli.options import Json, Seed, count, share
from routegraph.cli.pace import progress
from routegraph.cli.terminal import console, note, print_json
from routegraph.options import check_whole

if TYPE_CHECKING:
    from routegraph.validate.train.curriculum import State
    from routegraph.validate.train.reader.run import State as Progress

#: The reader, and its steps by default; the training says the same (a test holds it).
READER, STEPS = "smollm2-reader", 900
#: Items a task that a model is judged by, at most: they take an hour.
MOST_ITEMS = 20_000


def model_list(json_: Json = False) -> None:
    """Show the models that are known by name.

    What they are, their licence, size on disk, and whether they are there already.
    """
    from routegraph.validate.models import load

    found = load.model_list()
    if json_:
        print_json(found)
        return
    from routegraph.tables import Grid, Page, points

    rows = [
        [
            m["name"],
            m["family"],
            m["licence"],
            m["origin"],
            f"{m['megabytes']} MB",
            "yes" if m["cached"] else "no",
        ]
        for m in found
    ]
    columns = ["name", "family", "licence", "from", "disk", "there"]
    page = Page((Grid(columns, rows, right_from=4), points(f"{m['name']}: {m['summary']}." for m in found)))
    page.show(console())


def model_get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that `routegraph model list` shows.")],
) -> None:
    """Fetch a known model, convert it once, and print its folder."""
    from routegraph.validate.models import load

    with progress(f"model {name}") as advance:
        folder = load.get_model(name, progress=advance)
    typer.echo(folder)


def model_train(
    name: Annotated[str, typer.Argument(metavar="NAME", help="llama-tiny, qwen-tiny, or smollm2-reader.")],
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
    width: Annotated[int, count("Width of a tiny model's rows, 64 to 512, a multiple of 16.")] = 64,
    layers: Annotated[int, count("Layers of a tiny model, 4 to 16.")] = 4,
    steps: Annotated[
        int, count("Steps of the training of smollm2-reader, four seconds each on a free core.")
    ] = STEPS,
    items: Annotated[
        int | None, count("Items a task that it is judged by: 600, of smollm2-reader 200.")
    ] = None,
    json_: Json = False,
) -> None:
    """Train a model on one core, and judge it.

    Exit status 1 where it has not learnt enough. llama-tiny and qwen-tiny start from scratch, on the word-level
    tasks; smollm2-reader is an adapter for smollm2 that teaches it to answer from documents.
    """
    from routegraph.validate.train.network import FAMILIES

    if name not in (*FAMILIES, READER):
        raise ValueError(f"unknown model to train {name!r}; choose from: {', '.join([*FAMILIES, READER])}")
    if items is None:
        items = 200 if name == READER else 600
    check_whole("items", items, 1, MOST_ITEMS)
    if out.exists() and not out.is_dir():
        raise ValueError(f"cannot write {str(out)!r}: it is a file")
    if name == READER:
        _train_reader(
            out,
            seed,
            steps,
            items,
            json_,
            (minutes, abstention, words, width, layers) == (15.0, True, 96, 64, 4),
        )
        return
    if steps != STEPS:
        raise ValueError(f"steps are for {READER}; {name} is trained for some --minutes")
    from routegraph.validate.train.recipe import Recipe

    recipe = Recipe(name, seed, minutes, abstention, words, width, layers)
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


def _train_reader(out: Path, seed: int, steps: int, items: int, json_: bool, plain: bool) -> None:
    """Train an adapter that reads, and judge it."""
    from routegraph.validate.train.reader.run import NAME, Recipe, train

    if not plain:
        raise ValueError(f"{NAME} takes --seed, --steps and --items; all other settings are for tiny models")
    recipe = Recipe(seed=seed, steps=steps)
    from routegraph.validate.models.load import load, use_threads
    from routegraph.validate.train.reader.accept import COLUMNS, accept, measured
    from routegraph.validate.train.reader.card import write_card

    use_threads(1)
    record = train(recipe, out, _tell_reader)
    assert record is not None
    model = load(out, dtype="bfloat16")  # as it was trained
    with progress("items") as advance:
        reading = accept(model, measured(items), report=advance)
    write_card(out, record, reading)
    if json_:
        print_json({"training": record, "acceptance": reading.to_dict()})
    else:
        from routegraph.tables import Grid

        title = f"{NAME}, seed {seed}, {record['minutes']:.1f} min"
        rows = [row.cells() for row in reading.rows]
        console().print(Grid(COLUMNS, rows, title, right_from=1).to_rich())
    note(f"{out}: goal {'reached' if reading.reached else 'not reached'}")
    if not reading.reached:
        raise typer.Exit(1)


def _tell_reader(state: Progress) -> None:
    """Say how far the training of a reader is, on stderr."""
    point = state.curve[-1]
    note(
        f"{point['minutes']:5.1f} min, step {state.step}: loss {point['loss']:.3f}, right {point['right']:.2f}, "
        f"abstained {point['abstained']:.2f}; relations not trained on: {point['held_out_right']:.2f}, "
        f"{point['held_out_abstained']:.2f}"
    )


def _tell(state: State) -> None:
    """Say how far a training is, on stderr."""
    shares = ", ".join(
        f"{kind.replace('_', ' ')} {share:.2f}" for kind, share in state.right.items() if share
    )
    attempt = f" of attempt {state.attempt + 1}" if state.attempt else ""
    note(f"{state.seconds / 60:5.1f} min, {state.stage}, step {state.step}{attempt}: {shares}")
