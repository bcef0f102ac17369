"""A model from a GGUF file: transformers unpacks the weights, the tokenizer is built from the file's fields."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from routegraph.validate.models.families import SLIDING, UnsupportedModelError, check_family
from routegraph.validate.models.gguf_tokenizer import check_tokenizer, save_tokenizer
from routegraph.validate.models.size import check_fits


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
    from gguf import GGUFReader

    name = path.stem
    try:
        reader = GGUFReader(str(path))
        fields = {key: field.contents() for key, field in reader.fields.items()}
        parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
    except Exception as error:  # the reader trusts its file: whatever a damaged one makes it raise
        raise ValueError(f"{str(path)!r} is no readable GGUF file: {_words(error)}") from None
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        config = transformers.AutoConfig.from_pretrained(**where)
    except Exception as error:
        kind = fields.get("general.architecture")
        raise ValueError(
            f"transformers cannot read architecture {kind!r} from GGUF: {_words(error)}"
        ) from None
    check_family(config, name)
    if width := fields.get(f"{fields['general.architecture']}.attention.key_length"):
        config.head_dim = int(width)  # transformers reads none for Qwen3, and takes 128
    if why := _not_read(fields, {tensor.name for tensor in reader.tensors}):
        raise UnsupportedModelError(f"model {name!r} {why}")
    tokenizer = _tokenizer(fields, path, config.max_position_embeddings, tokenizer_folder)
    # Held at the same time: the file's tensors as float32, and the model.
    check_fits(name, parameters, dtype, device, copies=1 + (1 if dtype == "float32" else 2))
    try:
        with _without_bar():
            network = transformers.AutoModelForCausalLM.from_pretrained(
                **where, config=config, dtype=getattr(torch, dtype), attn_implementation="sdpa"
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ValueError(f"cannot load model {str(path)!r}: {_words(error)}") from None
    return network, tokenizer


def _tokenizer(fields: Mapping[str, Any], path: Path, max_length: int, keep: Path | None) -> Any:
    from transformers import AutoTokenizer

    check_tokenizer(fields)
    with nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory() as folder:
        try:
            save_tokenizer(fields, Path(folder), max_length)
        except Exception as error:  # tokenizers raises plain ones
            raise ValueError(f"the tokenizer of {str(path)!r} cannot be built: {_words(error)}") from None
        tokenizer = AutoTokenizer.from_pretrained(folder)
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


def _not_read(fields: Mapping[str, Any], tensors: set[str]) -> str:
    """Return what transformers would pass over in silence, if the file has it."""
    kind = fields["general.architecture"]
    if fields.get(f"{kind}.attention.sliding_window"):
        return SLIDING
    if "rope_freqs.weight" in tensors or fields.get(f"{kind}.rope.scaling.type", "none") != "none":
        return (
            "rescales its rotary positions, which transformers does not read from a GGUF file; use the model as "
            "transformers saves it"
        )
    return ""


def _words(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
