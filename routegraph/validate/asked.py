"""A prompt as tokens: its context, what is asked after it, and the answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.models import Loaded, quiet
from routegraph.validate.prompts import Prompt

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Asked:
    """A prompt as tokens.

    Attributes
    ----------
    context : int64[n_context]
        As `extract` tokenises it.
    offsets : int64[n_context, 2]
        Characters [start, end) of each token of the context.
    question : int64[n_question]
        Question and answer prefix, tokenised apart from the context, so that the context's tokens stay.
    answer : int64[n_answer]
        The expected answer as the prefix goes on; empty where the prompt has none.
    """

    context: Ids
    offsets: NDArray[np.int64]
    question: Ids
    answer: Ids


def encode(model: Loaded, prompt: Prompt) -> Asked:
    r"""Tokenise a prompt: its context, then "\nQuestion: <question>\n<answer prefix>", then the answer.

    Raises
    ------
    ValueError
        If the prompt asks nothing: neither question nor answer prefix.
    """
    if not (prompt.question.strip() or prompt.answer_prefix.strip()):
        raise ValueError(f"prompt {prompt.id!r} asks nothing: it has neither question nor answer prefix")
    asks = f"\nQuestion: {prompt.question}" if prompt.question.strip() else ""
    text = f"{asks}\n{prompt.answer_prefix or 'Answer:'}"
    with quiet():
        context = model.tokenizer(prompt.context, return_offsets_mapping=True)
        question = model.tokenizer.encode(text, add_special_tokens=False)
        whole = model.tokenizer.encode(f"{text} {prompt.answer}", add_special_tokens=False)
        answer = whole[len(question) :]
        if whole[: len(question)] != question:  # the last word and the answer share a token
            answer = model.tokenizer.encode(f" {prompt.answer}", add_special_tokens=False)
    return Asked(
        context=np.array(context["input_ids"], dtype=np.int64),
        offsets=np.array(context["offset_mapping"], dtype=np.int64).reshape(-1, 2),
        question=np.array(question, dtype=np.int64),
        answer=np.array(answer if prompt.answer.strip() else [], dtype=np.int64),
    )
