"""Files of results as they are: tables, JSON, YAML. What is damaged is refused by name."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from routegraph.validate.prompts.formats.containers import any_size


def read_text(path: Path) -> str:
    """Return a file as text; ValueError where it is none."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is damaged: no UTF-8 text (byte {error.start})") from None


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV with a header.

    Raises
    ------
    ValueError
        If it is none, holds no row, or a row is longer or shorter than the header.
    """
    try:
        with any_size():
            # Strict: a quote that is never closed would else swallow the rest of the file.
            lines = [
                line for line in csv.reader(io.StringIO(read_text(path), newline=""), strict=True) if line
            ]
    except csv.Error as error:
        raise ValueError(f"{str(path)!r} is damaged: no CSV ({error})") from None
    if len(lines) < 2:
        raise ValueError(f"{str(path)!r} holds no row of replies")
    header = lines[0]
    if len(set(header)) < len(header):
        raise ValueError(f"{str(path)!r} is damaged: a column stands twice in its header")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise ValueError(
                f"{str(path)!r} is damaged: row {number} has {len(line)} fields, and the header {len(header)}"
            )
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; ValueError where it is damaged."""
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: no JSON ({_why(error)})") from None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file; ValueError where a line is none, or there is no line."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{str(path)!r} is damaged: line {number} is no JSON ({_why(error)})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{str(path)!r} is damaged: line {number} is no JSON object")
        rows.append(row)
    if not rows:
        raise ValueError(f"{str(path)!r} holds no sample")
    return rows


def read_yaml(path: Path) -> tuple[dict[str, Any], str]:
    """Return what a YAML file of settings holds, read safely, or nothing and why it was not read.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    try:
        import yaml
    except ImportError:
        return {}, f"{path.name} is not read, since PyYAML is not installed"
    try:
        document = yaml.safe_load(read_text(path))
    except yaml.constructor.ConstructorError:
        return {}, f"{path.name} holds objects, which are not read"
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: no YAML ({_why(error)})") from None
    if not isinstance(document, dict):
        raise ValueError(f"{str(path)!r} is damaged: it holds no settings")
    return {str(name): value for name, value in document.items()}, ""


def _why(error: Exception) -> str:
    """Return what is wrong in one line."""
    return " ".join(str(error).split())[:120]
