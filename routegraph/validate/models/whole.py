"""What was loaded against what the model needs: all of it, or one sentence that says what is missing.

Transformers fills what a checkpoint lacks with random numbers, leaves out what it has no place for, and makes an all
but empty tokenizer where the files are missing; each of them only logs a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: What torch.compile, DataParallel and peft put before the names of the tensors of the model they wrap.
WRAPPERS = re.compile(r"^(?:_orig_mod\.|module\.|base_model\.model\.)+")

#: Endings of files of weights that are pickles.
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

#: Tensors of old checkpoints that are worked out anew.
_RECOMPUTED = re.compile(r"\.rotary_emb\.inv_freq$")


def read_network(source: str, name: str, **settings: Any) -> tuple[Any, Mapping[str, Any], str]:
    """Return a causal model as transformers loads it, its loading info (see `check_weights`), what was put right.

    Parameters
    ----------
    source : str
        Folder or hub id.
    name : str
        What the model is called in what is said of it.
    **settings : Any
        For ``AutoModelForCausalLM.from_pretrained``.
    """
    from transformers import AutoModelForCausalLM

    settings |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    settings |= {
        "trust_remote_code": False,
        "use_safetensors": True,
    }  # nothing that comes with a model is run
    network, found = AutoModelForCausalLM.from_pretrained(source, **settings)
    prefixes = sorted({match[0] for key in found["unexpected_keys"] if (match := WRAPPERS.match(key))})
    if prefixes:
        settings["key_mapping"] = {WRAPPERS.pattern: ""}
        network, found = AutoModelForCausalLM.from_pretrained(source, **settings)
    note = (
        f"model {name!r}: a wrapper's {prefixes[0]!r} was taken off the names of its tensors"
        if prefixes
        else ""
    )
    return network, found, note


def check_not_pickled(folder: Path, name: str) -> None:
    """Raise ValueError where a model's weights are there as pickles only, before one is opened: they can run code."""
    pickled = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLED)
    if pickled and not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"model {name!r} has its weights in {pickled[0]!r}, a pickle, which could run any code: it is not opened; "
            "save the model as safetensors, where you trust it"
        )


def check_weights(found: Mapping[str, Any], name: str) -> None:
    """Raise ValueError unless transformers' loading info says that every tensor was there and had its place."""
    unexpected = [key for key in found["unexpected_keys"] if not _RECOMPUTED.search(key)]
    trouble = []
    if missing := found["missing_keys"]:
        trouble.append(f"{len(missing)} of its tensors are not in its files ({_some(missing)})")
    if unexpected:
        trouble.append(f"its files hold {len(unexpected)} that it has no place for ({_some(unexpected)})")
    if shapes := found["mismatched_keys"]:
        key, theirs, ours = sorted(shapes)[0]
        trouble.append(f"{len(shapes)} have another shape ({key} {tuple(theirs)} for {tuple(ours)})")
    if trouble:
        raise ValueError(f"model {name!r} does not fit its config: {'; '.join(trouble)}")


def check_tokenizer(tokenizer: Any, name: str, folder: Path | None = None) -> None:
    """Raise ValueError unless a tokenizer is fast and has words.

    Parameters
    ----------
    tokenizer : Any
    name : str
        What the model is called in errors.
    folder : Path, optional
        Where the tokenizer's files ought to be.
    """
    if folder is not None:
        files = sorted({*getattr(tokenizer, "vocab_files_names", {}).values(), "tokenizer.json"})
        if not any((folder / file).is_file() for file in files):
            raise ValueError(
                f"model {name!r} has no tokenizer files: none of {', '.join(files)} in its folder"
            )
    if not tokenizer.is_fast:
        raise ValueError(f"model {name!r} has no fast tokenizer, which is needed for character spans")
    if len(tokenizer.get_vocab()) <= len(tokenizer.added_tokens_decoder):
        raise ValueError(f"model {name!r} has a tokenizer without words; are its files there?")


def check_ids(tokenizer: Any, network: Any, name: str) -> None:
    """Raise ValueError if words of a tokenizer lie beyond the embedding of the model.

    Tokens that were added to the vocabulary may, as Gemma3's image token does; the model then refuses to read them.
    """
    embedding = network.get_input_embeddings()
    rows, added = len(embedding.weight), tokenizer.added_tokens_decoder
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    if words := sorted(beyond.keys() - added.keys()):
        raise ValueError(
            f"model {name!r} has an embedding of {rows} rows, and {len(words)} tokens of its tokenizer lie beyond it "
            f"({beyond[words[0]]!r} is {words[0]}); it belongs to another model"
        )
    if beyond:
        embedding.register_forward_pre_hook(lambda module, args: _inside(args[0], rows, name))


def _inside(ids: Any, rows: int, name: str) -> None:
    if ids.numel() and (largest := int(ids.max())) >= rows:
        raise ValueError(
            f"token id {largest} lies beyond the embedding of model {name!r}, which has {rows} rows"
        )


def _some(keys: Iterable[str]) -> str:
    """Return the first names, and the layers where they are layers' tensors."""
    ordered = sorted(keys)
    words = ", ".join(ordered[:3]) + (", ..." if len(ordered) > 3 else "")
    layers = sorted({int(match[1]) for key in ordered if (match := re.search(r"\blayers\.(\d+)\.", key))})
    if len(ordered) > 3 and layers:
        words += f"; layers {layers[0]} to {layers[-1]}" if len(layers) > 1 else f"; layer {layers[0]}"
    return words
