"""What the files of a model's folder say, checked before transformers reads one of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from routegraph.schema import (
    anything,
    boolean,
    checked,
    listing,
    maybe,
    read_document,
    real,
    record,
    table_of,
    text,
    whole,
)
from routegraph.validate.models.whole import check_not_pickled

_POSITIONS = 10**10
_ROPE = {
    "rope_theta": maybe(real(0)),
    "rope_type": maybe(text),
    "type": maybe(text),
    "factor": maybe(real(0, 1e6)),
    "original_max_position_embeddings": maybe(whole(1, _POSITIONS)),
}
_TURNED = maybe(
    record(
        {},
        {**_ROPE, "full_attention": maybe(record({}, _ROPE)), "sliding_attention": maybe(record({}, _ROPE))},
    )
)
#: What is read of a config.json. The limits are far above every model that there is.
_FIELDS = {
    "model_type": text,
    "architectures": maybe(listing(text)),
    "num_hidden_layers": whole(1, 10_000),
    "hidden_size": whole(1, 10**6),
    "intermediate_size": whole(1, 10**7),
    "vocab_size": whole(1, 10**8),
    "num_attention_heads": whole(1, 10**5),
    "num_key_value_heads": maybe(whole(1, 10**5)),
    "head_dim": maybe(whole(1, 10**5)),
    "max_position_embeddings": whole(1, _POSITIONS),
    "sliding_window": maybe(whole(0, _POSITIONS)),
    "layer_types": maybe(listing(text)),
    "rope_theta": maybe(real(0)),
    "rope_scaling": _TURNED,
    "rope_parameters": _TURNED,
    "rms_norm_eps": real(0),
    "hidden_act": text,
    "tie_word_embeddings": boolean,
    "dtype": maybe(text),
    "torch_dtype": maybe(text),
}
CONFIG = record({}, {**_FIELDS, "text_config": maybe(record({}, _FIELDS))})
_INDEX = record({"weight_map": table_of(text)}, {"metadata": anything})

#: Other files that transformers reads, and takes for objects.
_OBJECTS = {
    "added_tokens.json": record({}),
    "generation_config.json": record({}),
    "special_tokens_map.json": record({}),
    "tokenizer_config.json": record({}, {"model_max_length": maybe(real(1))}),
}

#: How many numbers of a model its files may hold as one, at most: eight four-bit ones in a float32, twice.
_PACKED = 16


def check_folder(folder: Path, name: str, parameters: int | None) -> None:
    """Refuse a folder whose files are not what transformers takes them for, before it opens one.

    Parameters
    ----------
    folder : Path
        With a config.json.
    name : str
        What the model is called in errors.
    parameters : int or None
        How many numbers its safetensors files hold; None where there are none to read.

    Raises
    ------
    ValueError
        If weights are there as pickles only, a file holds something else, an adapter lies beside the model, or the
        config tells of a far larger model than the files hold.
    """
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"model {name!r} has an adapter_config.json beside its config.json; keep a model and an adapter apart"
        )
    check_not_pickled(folder, name)
    for path in sorted(folder.glob("config*.json")):
        check_config(read_document(path, CONFIG, "config of a model"), name, parameters)
    for file, kind in _OBJECTS.items():
        if (folder / file).is_file():
            read_document(folder / file, kind, "file of a model")
    if (folder / "tokenizer.json").is_file():
        with (folder / "tokenizer.json").open("rb") as stream:
            # Read whole by the tokenizer alone: it takes a second where there are many words.
            if stream.read(256).lstrip()[:1] != b"{":
                raise ValueError(f"{str(folder / 'tokenizer.json')!r} is no tokenizer: it must be an object")
    for path in sorted(folder.glob("*.index.json")):
        for part in read_document(path, _INDEX, "index of weights")["weight_map"].values():
            if not part.endswith(".safetensors") or Path(part).name != part:
                raise ValueError(
                    f"{str(path)!r} names {part[:100]!r} for weights, which is no safetensors file of its folder: it "
                    "is not opened"
                )


def check_config(config: Any, name: str, parameters: int | None) -> None:
    """Refuse a config that is none, or tells of a model far larger than its files, whose making would never end."""
    checked(CONFIG, config, f"model {name!r} has a config.json that cannot be read")
    if parameters is None:
        return
    need = least_parameters(config)
    if need > _PACKED * parameters:
        raise ValueError(
            f"model {name!r} does not fit its config: {need:.3g} parameters at least, and its files hold "
            f"{parameters:.3g}"
        )


def least_parameters(config: Mapping[str, Any]) -> int:
    """Return how many parameters a decoder has at least: its embedding, and a matrix of each layer's MLP."""
    vocabulary, width, inner, layers = (
        config.get(one) or 0
        for one in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    )
    return int(vocabulary * width + layers * width * max(inner, 1))
