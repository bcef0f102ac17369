"""Where a model is loaded from: what another process needs to load it, too, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from routegraph.validate.models.adapter import is_adapter, read_adapter
from routegraph.validate.models.gguf import header
from routegraph.validate.models.size import folder_parameters
from routegraph.validate.models.sources import MODELS


@dataclass(frozen=True)
class Origin:
    """Where a model was loaded from, and how.

    Attributes
    ----------
    model : str
        Name, hub id, or path from the root.
    dtype, device : str
        As `routegraph.validate.models.load.load` takes them.
    """

    model: str
    dtype: str
    device: str

    @classmethod
    def of(cls, model: str | Path, dtype: str, device: str) -> Origin:
        """Return the origin of what is loaded here as `model`; a path is made one that holds in any folder."""
        is_path = str(model) not in MODELS and Path(model).exists()
        return cls(str(Path(model).absolute() if is_path else model), dtype, device)


def is_gguf(model: str | Path) -> bool:
    """Return whether what a user calls a model is a GGUF file."""
    return str(model) not in MODELS and Path(model).is_file() and Path(model).suffix.lower() == ".gguf"


def parameters_of(model: str | Path) -> int | None:
    """Return how many parameters a model has, told by the files that are there; None where they do not tell."""
    if is_gguf(model):
        return header(Path(model)).parameters
    folder = MODELS[str(model)].folder if str(model) in MODELS else Path(model)
    if folder.is_dir() and is_adapter(folder):
        return parameters_of(read_adapter(folder).base)
    return folder_parameters(folder)
