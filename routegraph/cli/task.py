"""The command `task`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from routegraph.cli.options import Seed, count
from routegraph.cli.pace import progress
from routegraph.cli.terminal import note, parse_settings


def task(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of those that `list` shows.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="JSONL file to write.")],
    n: Annotated[int, count("Number of prompts.")] = 100,
    length: Annotated[
        int | None, count("Length of a context in tokens, to within a tenth; the task's own by default.")
    ] = None,
    tokens_of: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Whose tokens are counted; by default 1.3 for each word."),
    ] = None,
    seed: Seed = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Further parameter of the task; repeatable."),
    ] = None,
) -> None:
    """Write prompts of a task into a file, for extract and measure."""
    from routegraph.files import check_writable
    from routegraph.tables import many
    from routegraph.validate.prompts.prompt import write_prompts
    from routegraph.validate.tasks import load_task, tasks

    check_writable(out)
    settings: dict[str, Any] = parse_settings(setting or [])
    tasks.check_parameters(name, settings)
    for own in ("seed", "length", "count"):
        if own in settings:
            raise ValueError(f"--set takes no {own}: options do, see routegraph task --help")
    if tokens_of is not None:
        from routegraph.validate.models.load import load_tokenizer

        with progress(f"model {tokens_of}") as advance:
            tokenizer = load_tokenizer(tokens_of, progress=advance)
        settings["count"] = lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)
    prompts = load_task(name, n, seed, length, **settings)
    write_prompts(out, prompts)
    note(f"wrote {out}: {many(len(prompts), 'prompt')}")
