"""RULER's score of its questions from SQuAD and HotpotQA: whether a reply holds one of the answers."""

from __future__ import annotations

from collections.abc import Sequence

from routegraph.validate.graders.registry import grader


@grader("any_of")
def any_of(reply: str, golds: Sequence[str], choices: Sequence[str] = ()) -> float:
    """Whether an answer stands anywhere in the reply, letter by letter but for case (RULER's questions)."""
    folded = reply.lower()
    return float(any(gold.lower() in folded for gold in golds))
