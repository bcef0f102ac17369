"""Which model a name means, and where it is: one of ours, a folder, or one of a hub."""

from __future__ import annotations

import re
from pathlib import Path

from routegraph.text import one_line
from routegraph.validate.models.adapter import is_adapter
from routegraph.validate.models.size import folder_parameters
from routegraph.validate.models.sources import MODELS, Progress, get_model

#: Seconds to wait for a hub's answer to the question whether it knows a model.
_HUB_TIMEOUT = 10


def resolve(model: str, progress: Progress | None) -> tuple[str, str, bool, int | None]:
    """Return a model's name, where transformers finds it (folder or hub id), whether to stay offline, its size.

    The size is its number of parameters, None where that cannot be told before it is fetched.
    """
    choices = f"{', '.join(sorted(MODELS))}, a local folder, a GGUF file, or the id of a hub model"
    if model in MODELS:
        known = get_model(model, progress)
        return model, str(known), True, folder_parameters(known)
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file() and not is_adapter(folder):
            raise ValueError(f"folder {model!r} holds no model (no config.json); choose from: {choices}")
        return folder.resolve().name, model, True, folder_parameters(folder)
    if folder.is_file():
        raise ValueError(f"{model!r} is a file that does not end in .gguf; choose from: {choices}")
    if folder.suffix.lower() == ".gguf":
        raise ValueError(f"no GGUF file {model!r}; choose from: {choices}")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model):
        raise ValueError(f"unknown model {model!r}; choose from: {choices}")
    trouble, offline, parameters = _ask_hub(model)
    if trouble:
        raise ValueError(f"unknown model {model!r} ({trouble}); choose from: {choices}")
    return model, model, offline, parameters


def _ask_hub(model: str) -> tuple[str, bool, int | None]:
    """Return why a hub model cannot be had (or nothing), whether only the local cache has it, its parameters.

    One short question: left to itself, transformers repeats every request for minutes where there is no
    network.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(model, timeout=_HUB_TIMEOUT)
    except GatedRepoError:
        return "the hub asks for access rights", False, None
    except RepositoryNotFoundError:
        return "the hub does not know it", False, None
    except Exception as error:  # whichever HTTP library is underneath has its own errors
        cached = try_to_load_from_cache(model, "config.json")
        if isinstance(cached, str):
            return "", True, folder_parameters(Path(cached).parent)
        return f"no such folder, and the hub cannot be asked: {one_line(error)}", False, None
    return "", False, getattr(getattr(info, "safetensors", None), "total", None)
