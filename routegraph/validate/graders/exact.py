"""Right where the whole reply is the answer."""

from __future__ import annotations

from collections.abc import Sequence

from routegraph.validate.graders.registry import grader
from routegraph.validate.graders.words import normalise


@grader("exact")
def exact(reply: str, golds: Sequence[str], choices: Sequence[str] = ()) -> float:
    """Whether the whole reply is an answer: case, punctuation, articles and white space aside."""
    said = normalise(reply)
    return float(any(said == normalise(gold) for gold in golds))
