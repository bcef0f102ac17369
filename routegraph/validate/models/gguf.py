"""A model from a GGUF file: transformers unpacks the weights, the tokenizer is built from the file's fields."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from routegraph.text import one_line
from routegraph.validate.models.attention import implementation
from routegraph.validate.models.families import UnsupportedModelError, check_family
from routegraph.validate.models.gguf_config import complete
from routegraph.validate.models.gguf_tokenizer import check_tokenizer, save_tokenizer
from routegraph.validate.models.size import check_fits
from routegraph.validate.models.whole import check_weights


@dataclass(frozen=True, eq=False)
class Header:
    """What a GGUF file says about itself.

    Attributes
    ----------
    fields : mapping of str to Any
        Its metadata, by key.
    sizes : mapping of str to int
        Number of entries of each tensor.
    """

    fields: Mapping[str, Any]
    sizes: Mapping[str, int]

    @property
    def parameters(self) -> int:
        """Number of weights; tables of rotary frequencies are none."""
        return sum(size for name, size in self.sizes.items() if not name.startswith("rope_"))


def header(path: Path) -> Header:
    """Return the header of a GGUF file; ValueError if it cannot be read, or the file is one of several."""
    stat = path.stat()
    return _header(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1)  # a vocabulary of 150,000 tokens takes seconds to read
def _header(path: Path, size: int, modified: int) -> Header:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(str(path))
        fields = {key: field.contents() for key, field in reader.fields.items()}
        sizes = {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}
    except Exception as error:  # the reader trusts its file: whatever a damaged one makes it raise
        raise ValueError(f"{str(path)!r} is no readable GGUF file: {one_line(error)}") from None
    if (count := int(fields.get("split.count", 1))) > 1:
        raise ValueError(
            f"{str(path)!r} is part {int(fields.get('split.no', 0)) + 1} of {count} of a model, and not the whole; "
            "join them with llama.cpp's llama-gguf-split --merge"
        )
    return Header(fields, sizes)


def read_gguf(
    path: Path, dtype: str = "float32", device: str = "cpu", tokenizer_folder: Path | None = None
) -> tuple[Any, Any]:
    """Return the transformers model and the fast tokenizer of a GGUF file.

    Parameters
    ----------
    path : Path
    dtype : {"float32", "bfloat16", "float16"}
        Type of weights and activations; the weights are unpacked to float32 first.
    device : str
        Where the model is to run; it is returned in main memory.
    tokenizer_folder : Path, optional
        Folder that the tokenizer's files are to stay in.

    Raises
    ------
    ValueError
        If the file is no GGUF file, or damaged; if its family cannot be read, its pre-tokenizer is not known, or
        the model does not fit in memory. Weights are read only after everything else has been checked.
    """
    import torch
    import transformers

    name, found = path.stem, header(path)
    fields, parameters = found.fields, found.parameters
    where: dict[str, Any] = {
        "pretrained_model_name_or_path": str(path.parent),
        "gguf_file": path.name,
        "trust_remote_code": False,
    }
    try:
        config = transformers.AutoConfig.from_pretrained(**where)
    except Exception as error:
        kind = fields.get("general.architecture")
        raise ValueError(
            f"transformers cannot read architecture {kind!r} from GGUF: {one_line(error)}"
        ) from None
    check_family(config, name)
    if why := complete(config, fields, found.sizes, path):
        raise UnsupportedModelError(f"model {name!r} {why}")
    tokenizer = _tokenizer(fields, path, config.max_position_embeddings, tokenizer_folder)
    # Held at the same time: the file's tensors as float32, and the model.
    check_fits(name, parameters, dtype, device, copies=1 + (1 if dtype == "float32" else 2))
    try:
        with _without_bar():
            network, info = transformers.AutoModelForCausalLM.from_pretrained(
                **where,
                config=config,
                dtype=getattr(torch, dtype),
                attn_implementation=implementation(config),
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ValueError(f"cannot load model {str(path)!r}: {one_line(error)}") from None
    check_weights(info, name)
    if (read := sum(parameter.numel() for parameter in network.parameters())) != parameters:
        raise ValueError(
            f"model {name!r} is not read whole: its file holds {parameters} weights, and its architecture as "
            f"transformers reads it takes {read}; use the model as transformers saves it"
        )
    return network, tokenizer


def _tokenizer(fields: Mapping[str, Any], path: Path, max_length: int, keep: Path | None) -> Any:
    from transformers import AutoTokenizer

    check_tokenizer(fields)
    with nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory() as folder:
        try:
            save_tokenizer(fields, Path(folder), max_length)
        except Exception as error:  # tokenizers raises plain ones
            raise ValueError(f"the tokenizer of {str(path)!r} cannot be built: {one_line(error)}") from None
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.name_or_path = path.stem
    return tokenizer


@contextmanager
def _without_bar() -> Iterator[None]:
    """Keep transformers from drawing a progress bar that its own settings do not switch off."""
    from transformers import modeling_gguf_pytorch_utils as reading

    before = reading.tqdm
    reading.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        reading.tqdm = before
