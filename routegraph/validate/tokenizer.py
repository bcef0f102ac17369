"""A fast tokenizer from the fields of a GGUF file.

What transformers makes of such a file adds a beginning-of-text token, puts ids past the embedding and
has the wrong end token; so it is built here from the vocabulary, the merges and the token types.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Token type of control tokens (``<|im_end|>``, ...) in a GGUF vocabulary.
CONTROL = 3


def save_tokenizer(fields: Mapping[str, Any], folder: Path, max_length: int) -> None:
    """Write tokenizer.json and tokenizer_config.json so that AutoTokenizer reads a fast tokenizer.

    Byte-level BPE as GPT-2's, every digit a token of its own (the GGUF pre-tokenizer "smollm"). No
    token is added before or after a text. Bytes without a token (SmolLM2 has none for 21 of 256, none of
    them in text of common scripts) are dropped, as the model's own tokenizer drops them.

    Parameters
    ----------
    fields : mapping of str to Any
        The metadata of the GGUF file, by key (``tokenizer.ggml.tokens``, ...).
    folder : Path
        Existing folder to write to.
    max_length : int
        Number of positions of the model.

    Raises
    ------
    ValueError
        If the file asks for another kind of tokenizer, or an id would not be the token's position.
    """
    kind = (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"])
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"cannot build a {'/'.join(kind)} tokenizer; only gpt2/smollm is known")
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    types: list[int] = fields["tokenizer.ggml.token_type"]
    control = [token for token, type_ in zip(tokens, types, strict=True) if type_ == CONTROL]
    tokenizer = _byte_level_bpe(tokens, fields["tokenizer.ggml.merges"], control)
    misplaced = [token for number, token in enumerate(tokens) if tokenizer.token_to_id(token) != number]
    if misplaced or tokenizer.get_vocab_size() != len(tokens):
        raise ValueError(f"the vocabulary of the GGUF file is inconsistent at {misplaced[:3]!r}")
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        "bos_token": tokens[fields["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
        "pad_token": tokens[fields["tokenizer.ggml.padding_token_id"]],
        "unk_token": tokens[fields["tokenizer.ggml.unknown_token_id"]],
        "additional_special_tokens": control,
        "chat_template": fields["tokenizer.chat_template"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def _byte_level_bpe(tokens: list[str], merges: list[str], control: list[str]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer
