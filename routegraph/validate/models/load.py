"""Models: which are obtainable without a hub, where they are kept, and how any model is loaded.

Torch runs with as many threads as it finds cores. Where cores are shared, one thread is several times
faster: `use_threads` sets their number; nothing else here changes that setting.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from routegraph.text import one_line
from routegraph.validate.models.adapter import Adapter, apply_adapter, is_adapter, read_adapter
from routegraph.validate.models.attention import check_attention, implementation
from routegraph.validate.models.cache import DownloadError
from routegraph.validate.models.families import check_family, known_family
from routegraph.validate.models.folder import check_config, check_folder
from routegraph.validate.models.limits import max_context
from routegraph.validate.models.machine import check_device, use_threads
from routegraph.validate.models.origin import Origin, is_gguf
from routegraph.validate.models.quiet import quiet
from routegraph.validate.models.resolve import resolve
from routegraph.validate.models.size import cache_bytes, check_fits, folder_parameters
from routegraph.validate.models.sources import (
    MODELS,
    ModelSource,
    Progress,
    check_installed,
    get_model,
    model_list,
)
from routegraph.validate.models.whole import (
    check_ids,
    check_tokenizer,
    check_weights,
    read_network,
)

__all__ = [
    "MODELS",
    "DownloadError",
    "Loaded",
    "ModelSource",
    "get_model",
    "load",
    "model_list",
    "quiet",
    "use_threads",
]


DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model ready for one prefill after the other.

    Attributes
    ----------
    model, tokenizer : Any
        The transformers model, in evaluation mode with sdpa attention, and its fast tokenizer.
    name : str
        Known name, hub id, or the last part of the folder's path.
    n_layers, n_heads, n_query_heads, head_dim, max_context : int
        Layers, KV heads a layer, query heads a layer, width of a head, positions the model was made for.
    origin : Origin or None
        None: it was in memory already.
    """

    model: Any
    tokenizer: Any
    name: str
    n_layers: int
    n_heads: int
    n_query_heads: int
    head_dim: int
    max_context: int
    origin: Origin | None = None

    @property
    def cache_row(self) -> int:
        """Bytes that its cache takes for each token; sliding windows are not counted off."""
        return int(2 * self.n_layers * self.n_heads * self.head_dim * self.model.dtype.itemsize)

    @property
    def local(self) -> dict[str, Any]:
        """What a trace keeps of the sliding windows; empty where no layer has one."""
        family = known_family(self.model.config, self.name)
        windows = family.windows(self.model.config)
        return {"windows": windows, "spares_local": family.spares_local} if any(windows) else {}


def load(
    model: Any,
    dtype: str = "float32",
    device: str = "cpu",
    progress: Progress | None = None,
    tokenizer: Any = None,
) -> Loaded:
    """Load a model and its tokenizer for prefills: evaluation mode, sdpa attention, no gradients.

    Parameters
    ----------
    model : str, Path, transformers model or Loaded
        A name of `MODELS` (fetched on first use), a folder as transformers saves it, a GGUF file (unpacked into the
        cache on first use), or a hub id
        ("owner/name"; only then is a hub asked; where it cannot be reached, its local cache will do). Or a
        model that is in memory, which is put in evaluation mode and else taken as it is.
    dtype : {"float32", "bfloat16", "float16"}
        Type of weights and activations, where the model is read from files.
    device : str
        Where such a model runs, as torch names it: "cpu", "cuda", ...
    progress : callable, optional
        Called as ``progress(done, total, label)`` while a model is fetched or unpacked.
    tokenizer : fast tokenizer, optional
        Needed with a model that is in memory.

    Raises
    ------
    ValueError
        If the model is unknown, of a family that cannot be read (`routegraph.validate.models.families`), does not fit
        in memory, has no fast tokenizer, does not run sdpa attention, or cannot be read whole: tensors are missing
        or have no place, tokens lie beyond the embedding; if dtype or device are not available.
    DownloadError
        If the model is known and cannot be fetched.
    """
    if isinstance(model, Loaded):
        return model
    if not isinstance(model, str | Path):
        return _in_memory(model, tokenizer)
    if tokenizer is not None:
        raise ValueError(f"a tokenizer is for a model that is in memory; {str(model)!r} brings its own")
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; choose from: {', '.join(DTYPES)}")
    check_installed()
    check_device(device)
    if is_gguf(model):
        loaded = _from_gguf(Path(model), dtype, device, progress)
    else:
        name, source, offline, parameters = resolve(str(model), progress)
        adapter = None
        if offline and is_adapter(Path(source)):
            adapter = read_adapter(Path(source))
            _, source, offline, parameters = resolve(adapter.base, progress)
        loaded = _from_files(name, source, offline, parameters, dtype, device, adapter)
    return replace(loaded, origin=Origin.of(model, dtype, device))


def _from_gguf(path: Path, dtype: str, device: str, progress: Progress | None) -> Loaded:
    """Load a GGUF file from its unpacked copy in the cache, or itself where there is no room for a copy."""
    from routegraph.validate.models.convert import converted
    from routegraph.validate.models.gguf import read_gguf

    folder, why = converted(path, dtype, device, progress)
    if folder is not None:
        return _from_files(path.stem, str(folder), True, folder_parameters(folder), dtype, device)
    if why:
        warnings.warn(why, stacklevel=3)
    with quiet():
        network, tokenizer = read_gguf(path, dtype, device)
        network.eval().requires_grad_(False).to(device)
    return wrap(network, tokenizer, path.stem)


def _from_files(
    name: str,
    source: str,
    offline: bool,
    parameters: int | None,
    dtype: str,
    device: str,
    adapter: Adapter | None = None,
) -> Loaded:
    """Load what transformers reads by itself, a folder or a hub id, and add an adapter to it."""
    import torch

    with quiet():
        config = _read_config(name, source, offline, parameters)
        check_family(config, name)
        check_fits(name, parameters, dtype, device)
        tokenizer = _read_tokenizer(name, source, offline)
        with _in_one_line(name):
            network, found, note = read_network(
                source,
                name,
                dtype=getattr(torch, dtype),
                attn_implementation=implementation(config),
                local_files_only=offline,
            )
        check_weights(found, name)
        check_ids(tokenizer, network, name)
        if adapter is not None:
            apply_adapter(network, adapter)
        network.eval().requires_grad_(False).to(device)
    if note:
        warnings.warn(note, stacklevel=3)
    return wrap(network, tokenizer, name)


def _read_config(name: str, source: str, offline: bool, parameters: int | None) -> Any:
    """Return the configuration of a folder or hub model, checked before transformers makes anything of it."""
    from transformers import AutoConfig, PretrainedConfig

    if Path(source).is_dir():
        check_folder(Path(source), name, parameters)
    else:
        with _in_one_line(name):
            told, _ = PretrainedConfig.get_config_dict(source, local_files_only=offline)
        check_config(told, name, parameters)
    with _in_one_line(name):
        return AutoConfig.from_pretrained(source, local_files_only=offline, trust_remote_code=False)


#: What transformers, tokenizers and safetensors raise with words that a user can make use of.
_TOLD = (OSError, ValueError, RuntimeError, ImportError)


@contextmanager
def _in_one_line(name: str) -> Iterator[None]:
    """Turn whatever is raised for files that cannot be read into a ValueError of one line."""
    from safetensors import SafetensorError

    try:
        yield
    except MemoryError:
        raise
    except (*_TOLD, SafetensorError) as error:
        raise ValueError(f"cannot load model {name!r}: {one_line(error)}") from None
    except Exception:  # whatever the libraries trip over
        raise ValueError(
            f"cannot load model {name!r}: its files hold something else than transformers expects of them"
        ) from None


def _in_memory(network: Any, tokenizer: Any) -> Loaded:
    """Return a `Loaded` for a transformers model that the caller has loaded, checked like any other."""
    kind = type(network).__name__
    if not hasattr(network, "config") or not hasattr(network, "base_model"):
        raise ValueError(f"a model is a name, a path, or a transformers model in memory, got {kind}")
    name = Path(str(getattr(network, "name_or_path", "") or kind)).name
    check_family(network.config, name)
    check_attention(network, name)
    if tokenizer is None:
        raise ValueError(f"model {name!r} is in memory and needs its tokenizer: load(model, tokenizer=...)")
    check_tokenizer(tokenizer, name)
    check_ids(tokenizer, network, name)
    return wrap(network.eval(), tokenizer, name)


def cache_row(model: str | Path, dtype: str = "float32") -> int:
    """Return how many bytes a model's cache takes for each token: keys and values of all layers and KV heads.

    Only the configuration is read. Sliding windows are not counted off: with them a long cache takes less.

    Parameters
    ----------
    model : str or Path
        As in `load`, but no GGUF file.
    dtype : {"float32", "bfloat16", "float16"}
        Type of the cache.

    Raises
    ------
    ValueError
        As `load`, of a model or dtype that is unknown.
    """
    check_installed()
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; choose from: {', '.join(DTYPES)}")
    name, source, offline, parameters = resolve(str(model), None)
    if offline and is_adapter(Path(source)):
        _, source, offline, parameters = resolve(read_adapter(Path(source)).base, None)
    with quiet():
        config = _read_config(name, source, offline, parameters)
    n_layers, n_heads, _, head_dim = shape_of(config)
    return cache_bytes(n_layers, n_heads, head_dim, 1, dtype)


def shape_of(config: Any) -> tuple[int, int, int, int]:
    """Return layers, KV heads, query heads and width of a head of a model's configuration."""
    heads = config.num_attention_heads
    return (
        config.num_hidden_layers,
        getattr(config, "num_key_value_heads", None) or heads,
        heads,
        getattr(config, "head_dim", None) or config.hidden_size // heads,
    )


def load_tokenizer(model: str | Path, progress: Progress | None = None) -> Any:
    """Load a model's tokenizer alone, where the model is no GGUF file; `model` and errors as in `load`."""
    check_installed()
    if is_gguf(model):
        return load(model, progress=progress).tokenizer
    name, source, offline, parameters = resolve(str(model), progress)
    if Path(source).is_dir() and not is_adapter(Path(source)):
        check_folder(Path(source), name, parameters)
    return _read_tokenizer(name, source, offline)


def _read_tokenizer(name: str, source: str, offline: bool) -> Any:
    from transformers import AutoTokenizer

    with quiet(), _in_one_line(name):
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=offline, trust_remote_code=False)
    check_tokenizer(tokenizer, name, Path(source) if Path(source).is_dir() else None)
    return tokenizer


def wrap(network: Any, tokenizer: Any, name: str) -> Loaded:
    """Return a `Loaded` for a transformers model that is already in memory."""
    n_layers, n_heads, n_query_heads, head_dim = shape_of(network.config)
    return Loaded(
        model=network,
        tokenizer=tokenizer,
        name=name,
        n_layers=n_layers,
        n_heads=n_heads,
        n_query_heads=n_query_heads,
        head_dim=head_dim,
        max_context=max_context(network.config),
    )


#: Values of each parameter that are sampled from for `fingerprint`.
_SAMPLE = 1024


def fingerprint(model: Loaded) -> str:
    """Return a SHA-256 over names, shapes, types and evenly spaced values of all parameters.

    The same weights give the same sum wherever they were loaded from.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.model.named_parameters()):
        digest.update(f"{name} {list(parameter.shape)} {parameter.dtype}\n".encode())
        values = parameter.detach().flatten()
        digest.update(values[:: max(1, len(values) // _SAMPLE)].float().cpu().numpy().tobytes())
    return digest.hexdigest()
