"""The folder of a training: a checkpoint while it goes on, and a record that says that it is finished."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from routegraph.schema import read_document

#: Names of the files.
CHECKPOINT, RECORD = "checkpoint.pt", "training.json"


def make_folder(folder: Path) -> None:
    """Make the folder of a training, and those above it; ValueError where weights could not be written there."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:  # whoever writes safetensors asks for it
        raise ValueError(f"cannot train into {str(folder)!r}: its name is not UTF-8") from None
    folder.mkdir(parents=True, exist_ok=True)


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a finished training in a folder; None if there is none; ValueError if it is broken."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record: Any = read_document(path)
        return record if isinstance(record["recipe"], dict) else None
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{str(path)!r} is no record of a training; remove it to begin anew") from None


def has_checkpoint(folder: Path) -> bool:
    """Return whether a training is to be gone on with; ValueError where the folder holds something else."""
    if (folder / CHECKPOINT).is_file():
        return True
    if any(path for path in folder.iterdir() if not path.name.startswith(f".{CHECKPOINT}")):
        raise ValueError(f"folder {str(folder)!r} holds something else than a training; give a new folder")
    return False


def broken(checkpoint: Path, error: Exception) -> ValueError:
    """Return what to raise of a checkpoint that cannot be read."""
    return ValueError(
        f"{str(checkpoint)!r} is no checkpoint of a training ({type(error).__name__}); remove it to begin anew"
    )


def check_same(folder: Path, settings: Iterable[tuple[str, Any, Any]]) -> None:
    """Raise ValueError unless all settings, as (name, ours, the folder's), are the same."""
    for name, ours, theirs in settings:
        if ours != theirs:
            raise ValueError(
                f"folder {str(folder)!r} holds a training with {name} {theirs!r}, not {ours!r}; give a new folder"
            )
