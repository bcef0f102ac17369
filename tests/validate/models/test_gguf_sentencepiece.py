"""SentencePiece vocabularies of GGUF files, against the plain form of the algorithm."""

import itertools

import pytest

pytest.importorskip("tokenizers")

from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph.validate.models.gguf_sentencepiece import sentencepiece
from routegraph.validate.models.gguf_tokenizer import save_tokenizer

BYTES = [f"<0x{number:02X}>" for number in range(256)]
LETTERS = ["▁", "a", "b", "c"]


def naive(text: str, pieces: dict[str, float]) -> list[str]:
    """Join the neighbours whose piece has the highest score, the first of equals, until none has one."""
    parts = list(text)
    while True:
        known = [(-pieces[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in pieces]
        if not known:
            return parts
        _, i = min(known)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


words = st.text(alphabet="▁abc", min_size=2, max_size=5)


@settings(max_examples=150)
@given(st.lists(words, max_size=12, unique=True), st.text(alphabet=" abc", max_size=20))
def test_is_what_sentencepiece_does(pieces, text):
    """With a way to every piece through shorter ones, as the training of a vocabulary leaves it."""
    closed = {word[:end]: None for word in pieces for end in range(2, len(word) + 1)}
    scores = {word: -float(number) for number, word in enumerate(closed)}
    tokens = [*LETTERS, *closed]
    values = [-1000.0] * len(LETTERS) + list(scores.values())
    tokenizer = sentencepiece(tokens, values, [1] * len(tokens), None, False)
    assert tokenizer.encode(text).tokens == naive(text.replace(" ", "▁"), scores)


def saved(folder, **more):
    from transformers import AutoTokenizer

    tokens = ["<unk>", "<s>", "</s>", *BYTES, *LETTERS, "▁a", "ab", "▁ab", "<|tool|>"]
    types = [2, 3, 3, *[6] * 256, *[1] * (len(LETTERS) + 3), 4]
    fields = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 259 + [-9.0] * 4 + [-1.0, -2.0, -3.0, 0.0],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **{f"tokenizer.ggml.{name}": value for name, value in more.items()},
    }
    save_tokenizer(fields, folder, 100)
    return AutoTokenizer.from_pretrained(folder)


def test_a_file(tmp_path):
    tokenizer = saved(tmp_path)
    told = tokenizer("ab aé<|tool|>", return_offsets_mapping=True)
    assert tokenizer.convert_ids_to_tokens(told.input_ids)[:5] == ["<s>", "▁ab", "▁a", "<0xC3>", "<0xA9>"]
    assert tokenizer.convert_ids_to_tokens(told.input_ids)[-1] == "<|tool|>"
    assert told.offset_mapping[1:3] == [(0, 2), (2, 4)]
    assert tokenizer.decode(told.input_ids, skip_special_tokens=True).startswith("ab aé")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == ("<s>", "</s>", "<unk>")
    assert len(tokenizer) == 267
    other = saved(tmp_path, add_bos_token=False, add_space_prefix=False)
    assert other.convert_ids_to_tokens(other("ab a").input_ids) == ["ab", "▁a"]
    assert other.decode(other("ab a").input_ids) == "ab a"
