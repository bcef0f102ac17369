"""A prompt as tokens: its context, what is asked after it, and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.models.load import Loaded, quiet
from routegraph.validate.prompts.prompt import Prompt, Span

Ids = NDArray[np.int64]

#: What a chat model is told after the question.
INSTRUCTION = "Answer with a few words from the text. If the text does not tell, say: I don't know."


@dataclass(frozen=True, eq=False)
class Context:
    """What is prefilled before anything is evicted, as tokens.

    Attributes
    ----------
    text : str
    token_ids : int64[n]
    offsets : int64[n, 2]
        Characters [start, end) of `text` that each token stands for.
    question : int64[...] or None
        Positions of the question's tokens; None: the question was not there yet.
    """

    text: str
    token_ids: Ids
    offsets: NDArray[np.int64]
    question: Ids | None = None


@dataclass(frozen=True, eq=False)
class Asked:
    """A prompt as tokens.

    Attributes
    ----------
    text : str
        Of the context, with the question where it is part of it.
    context : int64[n_context]
        As `extract` tokenises it.
    offsets : int64[n_context, 2]
        Characters [start, end) of `text` that each token of the context stands for.
    question : int64[n_question]
        Question and answer prefix, tokenised apart from the context, so that the context's tokens stay; the
        prefix alone where the question is part of the context.
    answer : int64[n_answer]
        The expected answer as the prefix goes on; empty where the prompt has none.
    """

    text: str
    context: Ids
    offsets: NDArray[np.int64]
    question: Ids
    answer: Ids


def read_context(model: Loaded, prompt: Prompt, question_aware: bool = False) -> Context:
    r"""Tokenise what is prefilled: the context, and "\nQuestion: <question>" after it where scoring may know it.

    The question is tokenised apart, so that the tokens of the context are the same either way.

    Raises
    ------
    ValueError
        If there is no question to be aware of.
    """
    with quiet():
        context = model.tokenizer(prompt.context, return_offsets_mapping=True)
    ids, offsets = _ids(context["input_ids"]), _ids(context["offset_mapping"]).reshape(-1, 2)
    if not question_aware:
        return Context(prompt.context, ids, offsets)
    if not prompt.question.strip():
        raise ValueError(f"prompt {prompt.id!r} has no question, which question-aware scoring needs")
    text = _question(prompt)
    with quiet():
        asks = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    more = _ids(asks["offset_mapping"]).reshape(-1, 2) + len(prompt.context)
    return Context(
        prompt.context + text,
        np.concatenate([ids, _ids(asks["input_ids"])]),
        np.concatenate([offsets, more]),
        np.arange(len(ids), len(ids) + len(more)),
    )


def tokenise(model: Loaded, prompt: Prompt, question_aware: bool = False) -> Asked:
    r"""Tokenise a prompt: its context, then "\nQuestion: <question>\n<answer prefix>", then the answer.

    question_aware: the question belongs to the context, see `read_context`.

    Raises
    ------
    ValueError
        If the prompt asks nothing: neither question nor answer prefix.
    """
    if not (prompt.question.strip() or prompt.answer_prefix.strip()):
        raise ValueError(f"prompt {prompt.id!r} asks nothing: it has neither question nor answer prefix")
    context = read_context(model, prompt, question_aware)
    asks = "" if question_aware else _question(prompt)
    text = f"{asks}\n{prompt.answer_prefix or 'Answer:'}"
    with quiet():
        question = model.tokenizer.encode(text, add_special_tokens=False)
        whole = model.tokenizer.encode(f"{text} {prompt.answer}", add_special_tokens=False)
        answer = whole[len(question) :]
        if whole[: len(question)] != question:  # the last word and the answer share a token
            answer = model.tokenizer.encode(f" {prompt.answer}", add_special_tokens=False)
    answer = answer if prompt.answer.strip() else []
    return Asked(context.text, context.token_ids, context.offsets, _ids(question), _ids(answer))


def _question(prompt: Prompt) -> str:
    return f"\nQuestion: {prompt.question}" if prompt.question.strip() else ""


def _ids(numbers: Any) -> Ids:
    return np.array(numbers, dtype=np.int64)


def tokens_in(context: str, offsets: NDArray[np.int64], spans: Sequence[Span]) -> NDArray[np.int64]:
    """Return the sorted positions of the tokens that share a character with a span, int64[...].

    White space does not count: in byte-level vocabularies a word's token holds the space before it, so that the
    token after a span would else reach into it.

    Parameters
    ----------
    context : str
        The text.
    offsets : int64[n, 2]
        Characters [start, end) of each token.
    spans : sequence of (int, int)
        Characters [start, end).
    """
    wanted = np.zeros(len(context), dtype=bool)
    for start, end in spans:
        wanted[start:end] = True
    wanted &= np.array([not character.isspace() for character in context], dtype=bool)
    before = np.concatenate([[0], np.cumsum(wanted)])
    return np.flatnonzero(before[offsets[:, 1]] > before[offsets[:, 0]]).astype(np.int64)
