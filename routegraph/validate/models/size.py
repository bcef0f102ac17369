"""Whether a model fits in memory, said before it is loaded."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

from routegraph.memory import available
from routegraph.options import check_whole

#: Bytes a parameter takes.
ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Measured: bytes that a worker process takes besides its model, for what it imports.
WORKER = 400_000_000


def cache_bytes(
    n_layers: int, n_heads: int, head_dim: int, n_tokens: int, dtype: str = "float32", ratio: float = 0.0
) -> int:
    """Return how many bytes a cache takes: keys and values of all layers and KV heads.

    Parameters
    ----------
    n_layers, n_heads, head_dim : int
        Layers, KV heads a layer, width of a head.
    n_tokens : int
    dtype : {"float32", "bfloat16", "float16"}
    ratio : float
        Share of the rows that are gone, in [0, 1].

    Raises
    ------
    ValueError
        If the dtype is unknown, or a number out of range.
    """
    if dtype not in ITEM:
        raise ValueError(f"unknown dtype {dtype!r}; choose from: {', '.join(ITEM)}")
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio must be in [0, 1], got {ratio}")
    for name, value in (("n_layers", n_layers), ("n_heads", n_heads), ("head_dim", head_dim)):
        check_whole(name, value, 1)
    check_whole("n_tokens", n_tokens, 0)
    return round(2 * n_layers * n_heads * head_dim * ITEM[dtype] * n_tokens * (1 - ratio))


def folder_parameters(folder: Path) -> int | None:
    """Return how many parameters the safetensors files of a folder hold; None where there are none to read."""
    try:
        return sum(_parameters(path) for path in folder.glob("*.safetensors")) or None
    except (OSError, ValueError, KeyError, struct.error):
        return None  # damaged: what reads the weights says so


def _parameters(path: Path) -> int:
    """Return the number of entries of all tensors, from the header alone (its length, then JSON)."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > path.stat().st_size:
            raise ValueError("no safetensors file")
        header = json.loads(stream.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def check_fits(name: str, parameters: int | None, dtype: str, device: str, copies: float = 1.0) -> None:
    """Refuse a model that does not fit in memory.

    Parameters
    ----------
    name : str
        What the model is called in the error.
    parameters : int or None
        Its size; None where it is not known, and nothing is refused.
    dtype : {"float32", "bfloat16", "float16"}
        Type it is loaded as.
    device : str
        Where it runs; it passes through main memory in any case.
    copies : float
        How many times its final size is held while it is read.

    Raises
    ------
    ValueError
        If it needs more than is free; both are named.
    """
    if parameters is None:
        return
    need = parameters * ITEM[dtype]
    for where, wanted, free in (("memory", need * copies, available()), (device, need, _on_device(device))):
        if free is not None and wanted > free:
            advice = "choose a smaller model" + (", or dtype bfloat16" if dtype == "float32" else "")
            raise ValueError(
                f"model {name!r} of {parameters / 1e9:.1f} billion parameters needs about {wanted / 1e9:.1f} GB of "
                f"{where} in {dtype}, and {free / 1e9:.1f} GB is free; {advice}"
            )


def check_workers_fit(
    name: str, parameters: int | None, dtype: str, device: str, workers: int, here: int
) -> None:
    """Refuse more workers on this machine than its memory holds models for.

    Parameters
    ----------
    name, parameters, dtype, device
        As of `check_fits`: each worker holds one such model, on `device`.
    workers : int
        Processes.
    here : int
        1 where the process that asks has yet to load its own, which lies in main memory; 0 where it has.

    Raises
    ------
    ValueError
        If they need more than is free; both are named, and how many workers there is memory for.
    """
    if parameters is None:
        return
    size = parameters * ITEM[dtype]
    inside = device.startswith("cuda")
    # What is loaded into a device passes through main memory, hardly ever all at once.
    each = WORKER + (0 if inside else size)
    counted = [("memory", each, (here + inside) * size, available()), (device, size, 0, _on_device(device))]
    for where, one, besides, free in counted:
        need = workers * one + besides
        if free is not None and need > free:
            most = max(0, int((free - besides) // one))
            raise ValueError(
                f"{workers} workers need about {need / 1e9:.1f} GB of {where}, a model {name!r} each in {dtype}, and "
                f"{free / 1e9:.1f} GB is free, enough for {most}"
            )


def _on_device(device: str) -> int | None:
    """Return the free bytes of a CUDA device, None elsewhere."""
    if not device.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.mem_get_info(device)[0])
