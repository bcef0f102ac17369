"""Options that several commands share: each is declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


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


Ratios = Annotated[
    list[float], typer.Option(parser=real, metavar="RATIO", help="Compression ratio in [0, 1); repeatable.")
]
Seed = Annotated[int, count("Seed of all random numbers.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of tables.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Draw a figure (pdf, svg or png).")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the JSON document here.")]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Known name, local folder, GGUF file, or hub id.")
]
QuestionAware = Annotated[bool, typer.Option("--question-aware", help="Let the scores know the question.")]
Dtype = Annotated[str, typer.Option(metavar="NAME", help="float32 or bfloat16.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="cpu or cuda.")]
Threads = Annotated[int | None, count("Threads of torch; half of the cores by default.")]
Tasks = Annotated[
    list[str],
    typer.Option(metavar="NAME", help="A task, a JSONL file of prompts, or 'bundled'; repeatable."),
]
Items = Annotated[int | None, count("Items of each task; by default 100 of a task, all of a file.")]
Length = Annotated[int | None, count("Length of a task's contexts in tokens; the task's own by default.")]
ReplyLength = Annotated[int | None, count("Length of the longest reply.")]
ChunkLength = Annotated[int, count("Rows of a chunk of the policy chunk.")]


def counts(help: str) -> Any:
    """Return an option that takes whole numbers."""
    return typer.Option(parser=whole, metavar="N", help=help + " Repeatable.")


def shares(help: str) -> Any:
    """Return an option that takes numbers."""
    return typer.Option(parser=real, metavar="X", help=help + " Repeatable.")


def names(help: str) -> Any:
    """Return an option that takes names."""
    return typer.Option(metavar="NAME", help=help + " Repeatable.")
