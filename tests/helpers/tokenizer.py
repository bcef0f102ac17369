"""Subword tokenizers that are made on the spot, for tests that need one and no trained model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from routegraph.validate.prompts.prompt import bundled_prompts

#: Tokens of `byte_level_tokenizer`: with so many, no bundled document ends in a chunk of 64 too short to be scored.
VOCABULARY = 1100
#: Learnt with the documents, so that the words of what many tests tell are tokens of their own.
TOLD = ["Ada lives in Paris, and Bob in a café in Rome."] * 20


def learnt(texts: Sequence[str], vocabulary: int) -> Any:
    """Return a fast byte-level BPE tokenizer trained on texts; a digit is a token, and nothing is added to a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


@functools.cache
def byte_level_tokenizer() -> Any:
    """Return the tokenizer that has learnt the bundled documents."""
    documents = [prompt.context for prompt in bundled_prompts()]
    made = learnt(documents + TOLD, VOCABULARY)
    rest = np.array([len(ids) for ids in made(documents).input_ids]) % 64
    assert not np.isin(rest, [1, 2, 3, 4]).any(), "choose another VOCABULARY: such chunks cannot be scored"
    return made
