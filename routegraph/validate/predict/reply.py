"""The part of a model's own reply that answers: what comes later is judged by no grader and breaks nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.graders.words import statement
from routegraph.validate.models.quiet import quiet


def stated(tokenizer: Any, reply: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    """Return the tokens of a reply up to the end of its first statement, and that statement.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    reply : int64[n]

    Returns
    -------
    tokens : int64[k]
        The fewest that hold the statement; all of them where the reply states nothing.
    text : str
    """
    with quiet():
        texts = [tokenizer.decode(reply[:k], skip_special_tokens=True) for k in range(1, len(reply) + 1)]
    said = statement(texts[-1]) if texts else ""
    for k, text in enumerate(texts, start=1):
        if said and said in text:
            return reply[:k], said
    return reply, said
