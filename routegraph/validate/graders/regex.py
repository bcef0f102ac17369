"""Right where a pattern is found in the reply."""

from __future__ import annotations

import re
from collections.abc import Sequence

from routegraph.validate.graders.registry import grader


@grader("regex")
def regex(reply: str, golds: Sequence[str], choices: Sequence[str] = (), *, whole: bool = False) -> float:
    """Whether an answer, read as a regular expression, is found in the reply; with `whole`, matches all of it.

    Raises
    ------
    ValueError
        If an answer is no regular expression.
    """
    for gold in golds:
        try:
            pattern = re.compile(gold)
        except re.error as error:
            raise ValueError(f"answer {gold!r} is no regular expression: {error}") from None
        if pattern.fullmatch(reply.strip()) if whole else pattern.search(reply):
            return 1.0
    return 0.0
