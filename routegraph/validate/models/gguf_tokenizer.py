"""A fast tokenizer from the fields of a GGUF file.

What transformers makes of such a file adds a beginning-of-text token, puts ids past the embedding and
has the wrong end token; so it is built here from the vocabulary, the merges and the token types.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routegraph.validate.models.gguf_sentencepiece import sentencepiece

#: Token types in a GGUF vocabulary: control tokens (``<|im_end|>``, ...), and what a user added.
CONTROL, USER_DEFINED = 3, 4

_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class PreTokenizer:
    """How a text is cut into words before the merges, by the name that a GGUF file gives it.

    Attributes
    ----------
    pattern : str
        Regular expression of a word; GPT-2's own where empty.
    digits : bool
        Whether every digit is cut off first.
    nfc : bool
        Whether the text is normalised to composed characters.
    whole_words : bool
        Whether a word that is in the vocabulary is taken whole, whatever the merges say.
    begins : bool
        Whether a beginning-of-text token is put first where the file does not say.
    """

    pattern: str = ""
    digits: bool = False
    nfc: bool = False
    whole_words: bool = False
    begins: bool = False


PRE_TOKENIZERS = {
    "gpt-2": PreTokenizer(),
    "llama-bpe": PreTokenizer(_QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|"), whole_words=True, begins=True),
    "qwen2": PreTokenizer(_QWEN, nfc=True),
    "smollm": PreTokenizer(digits=True),
}

#: SentencePiece knows no words: a text is one.
SENTENCEPIECE = PreTokenizer(begins=True)


def check_tokenizer(fields: Mapping[str, Any]) -> PreTokenizer:
    """Return the pre-tokenizer that a GGUF file asks for; ValueError if it is not known."""
    kind = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre", "default")
    if kind == ("llama", "default"):
        return SENTENCEPIECE
    if kind[0] != "gpt2" or kind[1] not in PRE_TOKENIZERS:
        known = ", ".join([*(f"gpt2/{name}" for name in sorted(PRE_TOKENIZERS)), "llama/default"])
        raise ValueError(
            f"cannot build a {kind[0]}/{kind[1]} tokenizer from a GGUF file; known are {known}: use the model as "
            "transformers saves it"
        )
    return PRE_TOKENIZERS[kind[1]]


def save_tokenizer(fields: Mapping[str, Any], folder: Path, max_length: int) -> None:
    """Write tokenizer.json and tokenizer_config.json so that AutoTokenizer reads a fast tokenizer.

    SentencePiece, or byte-level BPE, its words as in `PRE_TOKENIZERS`; in the latter, bytes without a token (SmolLM2
    has none for 21 of 256, none of them in text of common scripts) are dropped, as the model's own tokenizer drops
    them.

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
    pre = check_tokenizer(fields)
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    types: list[int] = fields["tokenizer.ggml.token_type"]
    control = [token for token, type_ in zip(tokens, types, strict=True) if type_ == CONTROL]
    added = [token for token, type_ in zip(tokens, types, strict=True) if type_ == USER_DEFINED]
    if pre is SENTENCEPIECE:
        unknown = fields.get("tokenizer.ggml.unknown_token_id")
        prefix = bool(fields.get("tokenizer.ggml.add_space_prefix", True))
        tokenizer = sentencepiece(tokens, fields["tokenizer.ggml.scores"], types, unknown, prefix)
    else:
        tokenizer = _byte_level_bpe(tokens, fields["tokenizer.ggml.merges"], pre)
    _add(tokenizer, control, added)
    misplaced = [token for number, token in enumerate(tokens) if tokenizer.token_to_id(token) != number]
    if misplaced or tokenizer.get_vocab_size() != len(tokens):
        raise ValueError(f"the vocabulary of the GGUF file is inconsistent at {misplaced[:3]!r}")
    names = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    ids = {ours: fields.get(f"tokenizer.ggml.{theirs}_token_id") for ours, theirs in names.items()}
    if ids["bos"] is not None and fields.get("tokenizer.ggml.add_bos_token", pre.begins):
        _begin_with(tokenizer, tokens[ids["bos"]], ids["bos"])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        **{f"{name}_token": tokens[number] for name, number in ids.items() if number is not None},
        "additional_special_tokens": control,
        "chat_template": fields.get("tokenizer.chat_template"),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def _begin_with(tokenizer: Any, token: str, number: int) -> None:
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, number)]
    )


def _add(tokenizer: Any, control: list[str], added: list[str]) -> None:
    """Take control tokens, and those that a user added, out of what is cut up."""
    from tokenizers import AddedToken

    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])


def _byte_level_bpe(tokens: list[str], merges: list[str], pre: PreTokenizer) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=pre.whole_words))
    if pre.nfc:
        tokenizer.normalizer = normalizers.NFC()
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if pre.digits else []
    if pre.pattern:
        steps.append(pre_tokenizers.Split(Regex(pre.pattern), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pre.pattern))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
