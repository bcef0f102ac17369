"""Prompts: a context, a question about it, and where in the context the answer stands; files of many formats."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from routegraph.files import atomic_open, digest
from routegraph.validate.prompts.fields import Prompt, Span
from routegraph.validate.prompts.formats import PromptsFile, parse_prompts, understand
from routegraph.validate.prompts.occurrences import occurrences

__all__ = [
    "BUNDLED",
    "Prompt",
    "PromptsFile",
    "RepeatedPromptsWarning",
    "SkippedRowsWarning",
    "Span",
    "bundled_prompts",
    "counted_once",
    "occurrences",
    "parse_prompts",
    "prompts_bytes",
    "read_prompts",
    "read_prompts_file",
    "write_prompts",
]

#: Stands for the prompts that come with the package wherever a prompts file is asked for.
BUNDLED = "bundled"
_BUNDLED_FILE = "prompts.jsonl"


class SkippedRowsWarning(UserWarning):
    """Rows of a prompts file were left out."""


class RepeatedPromptsWarning(UserWarning):
    """Prompts were given more than once, and count once."""


def counted_once(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return each prompt once, with a warning of those that come again: as two items they would be none the surer.

    The same are prompts that agree in everything, id and task included.
    """
    names = [digest(prompt.to_dict()) for prompt in prompts]
    found: dict[str, Prompt] = {}
    for name, prompt in zip(names, prompts, strict=True):
        found.setdefault(name, prompt)
    once = list(found.values())
    if len(once) < len(prompts):
        again = next(prompt for name, prompt in zip(names, prompts, strict=True) if names.count(name) > 1)
        warnings.warn(
            f"{len(prompts) - len(once)} of {len(prompts)} prompts are given again, the first of them {again.id!r}: "
            "each counts once",
            RepeatedPromptsWarning,
            stacklevel=3,
        )
    return once


def read_prompts(path: str | os.PathLike[str]) -> list[Prompt]:
    """Read prompts from a file of any format that `formats` knows, or the bundled ones for the path "bundled".

    What a file is is told by its content. In routegraph's own format (JSONL) only `context` must be given; `id` is the
    line number where missing, other fields are empty, fields that `Prompt` does not have are passed over, blank
    lines too, and a bad line is an error. Of other projects' files a row that cannot be used is left out with a
    `SkippedRowsWarning` that names it; `read_prompts_file` returns which.

    Raises
    ------
    ValueError
        If the file is missing, empty, no UTF-8, or of no known format, or none of its rows can be used. Of
        routegraph's own format also if a line is no JSON object, lacks its context, has a field of the wrong type,
        a span outside the context, or the id of an earlier line. File and line are named.
    """
    read = read_prompts_file(path)
    if read.skipped:
        warnings.warn(read.skipped_in_words(), SkippedRowsWarning, stacklevel=2)
    return list(read.prompts)


def read_prompts_file(path: str | os.PathLike[str]) -> PromptsFile:
    """Read a file as `read_prompts` does; returns what was understood of it, and which rows were left out and why."""
    name = Path(path).name if str(path) != BUNDLED else _BUNDLED_FILE
    return understand(prompts_bytes(path), name)


def bundled_prompts() -> list[Prompt]:
    """Return the prompts that come with the package: short documents, one question each."""
    return read_prompts(BUNDLED)


def prompts_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a prompts file, or of the bundled one; ValueError if there is none."""
    if str(path) == BUNDLED:
        return (resources.files("routegraph") / "data" / _BUNDLED_FILE).read_bytes()
    if not Path(path).is_file():
        raise ValueError(f"no prompts file {str(path)!r}; give a file that is there, or {BUNDLED!r}")
    return Path(path).read_bytes()


def write_prompts(path: str | os.PathLike[str], prompts: Iterable[Prompt]) -> None:
    """Write prompts as JSONL, whole or not at all."""
    lines = [json.dumps(prompt.to_dict(), ensure_ascii=False) + "\n" for prompt in prompts]
    with atomic_open(path) as stream:
        stream.write("".join(lines).encode("utf-8"))
