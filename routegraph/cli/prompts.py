"""The command `prompts`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from routegraph.cli.options import Json
from routegraph.cli.pace import progress
from routegraph.cli.terminal import console, print_json


def prompts(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A file of any format that `list` shows, or 'bundled'.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Whose tokens are counted; by default words are."),
    ] = None,
    json_: Json = False,
) -> None:
    """Show what is understood of a file of prompts.

    Format, how many, lengths, the first one, what is left out and why.
    """
    from routegraph.validate.prompts.prompt import read_prompts_file
    from routegraph.validate.prompts.summary import describe

    read = read_prompts_file(file)
    count = None
    if model is not None:
        from routegraph.validate.models.load import load_tokenizer

        with progress(f"model {model}") as advance:
            tokenizer = load_tokenizer(model, progress=advance)

        def count(text: str) -> int:
            return len(tokenizer(text, verbose=False).input_ids)

    document = describe(read, {"file": read.name, "model": model}, count)
    if json_:
        print_json(document)
    else:
        _show(document, read)


def _show(document: dict[str, Any], read: Any) -> None:
    from routegraph.tables import Grid, many, show, spanned
    from routegraph.validate.graders import DEFAULT
    from routegraph.validate.prompts.summary import shortened, shown

    screen = console()

    def say(line: str) -> None:
        show(screen, [line])

    def table(columns: list[str], rows: list[list[str]], title: str) -> None:
        say("")
        screen.print(Grid(columns, rows, title, right_from=len(columns)).to_rich())

    lengths, has = document["lengths"], document["has"]
    left = f", {many(len(read.skipped), 'row')} left out" if read.skipped else ""
    say(f"{read.name}: format {read.format} ({read.container}), {many(document['n'], 'prompt')}{left}.")
    how = "" if lengths["unit"] == "tokens" else " (set apart by blanks; --model MODEL counts tokens)"
    span = spanned((lengths["min"], lengths["max"]))
    say(f"Contexts of {span} {lengths['unit']}{how}, median {lengths['median']:g}.")
    said = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in has.items())
    graders = ", ".join(document["graders"]).replace("default", f"{DEFAULT} (the default)")
    unanswerable = f"; unanswerable {document['unanswerable']}" if document["unanswerable"] else ""
    say(f"Prompts with: {said}{unanswerable}. Graded by: {graders}.")
    for note in read.notes:
        say(f"Note: {note}.")
    table(["field", "text"], [list(pair) for pair in shown(read.prompts[0])], "First prompt")
    if read.skipped:
        rows = [[str(row), shortened(why)] for row, why in read.skipped]
        table(["row", "why"], rows, "Left out")
