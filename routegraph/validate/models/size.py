"""Whether a model fits in memory, said before it is loaded."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

from routegraph.sim.memory import available

#: Bytes a parameter takes.
ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}


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


def _on_device(device: str) -> int | None:
    """Return the free bytes of a CUDA device, None elsewhere."""
    if not device.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.mem_get_info(device)[0])
