"""Traces that are finished while others of their file are not: a killed extraction goes on with them.

They lie in a hidden folder beside the file that is to be written, one file a prompt, and go with it once it is whole.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routegraph import plugins
from routegraph._version import __version__
from routegraph.files import digest
from routegraph.trace import Trace
from routegraph.validate.models.load import Loaded, fingerprint
from routegraph.validate.prompts.prompt import Prompt

#: What a trace's numbers depend on, besides this package.
PACKAGES = ("torch", "transformers", "tokenizers", "kvpress", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of this package and of those that a trace's numbers depend on."""
    return {"routegraph": __version__, **{name: importlib.metadata.version(name) for name in PACKAGES}}


@dataclass(frozen=True)
class Parts:
    """Finished traces of one way of extracting them.

    Attributes
    ----------
    folder : Path
    made_by : str
        Names model, settings and versions: a part that something else made is not taken.
    """

    folder: Path
    made_by: str

    @classmethod
    def of(
        cls, out: str | os.PathLike[str], model: Loaded, scorers: Sequence[Any], settings: Sequence[Any]
    ) -> Parts | None:
        """Return the parts of a trace file; None where they cannot be told apart (presses), or `out` is no plain file.

        Parameters
        ----------
        out : path
        model : Loaded
        scorers : sequence of str or kvpress press
        settings : sequence
            All else that traces depend on, each with a `repr` that tells it.
        """
        path = Path(os.path.realpath(out))
        if (path.exists() and not path.is_file()) or not all(isinstance(one, str) for one in scorers):
            return None
        loaded = [source.text for source in plugins.loaded()]
        told = [fingerprint(model), str(model.model.dtype), str(model.model.device), list(scorers), loaded]
        return cls(path.with_name(f".{path.name}.parts"), digest([*told, *map(repr, settings), versions()]))

    def _path(self, prompt: Prompt) -> Path:
        return self.folder / f"{digest([self.made_by, repr(prompt)])}.npz"

    def load(self, prompt: Prompt) -> Trace | None:
        """Return the trace of a prompt, if it is finished and whole."""
        path = self._path(prompt)
        if not path.is_file():
            return None
        try:
            (trace,) = Trace.load(path)
        except ValueError:  # damaged: it is made again
            return None
        return trace

    def save(self, prompt: Prompt, trace: Trace) -> None:
        """Keep a trace. Where that cannot be done, or another process has just removed the folder, all goes on."""
        try:
            self.folder.mkdir(exist_ok=True)
            Trace.save(self._path(prompt), [trace], {"command": "extract, a part"})
        except OSError:
            with suppress(OSError):
                self.folder.rmdir()  # if it is empty

    def remove(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)
