"""RULER's score of needles, variables and words: the share of the answers that a reply holds."""

from __future__ import annotations

from collections.abc import Sequence

from routegraph.validate.graders.registry import grader


@grader("all_of")
def all_of(reply: str, golds: Sequence[str], choices: Sequence[str] = (), *, threshold: float = 1.0) -> float:
    """Share of the answers that stand anywhere in the reply, letter by letter but for case (RULER).

    Source: Hsieh et al., RULER, arXiv 2404.06654: recall of the references as substrings.
    """
    folded = reply.lower()
    return sum(gold.lower() in folded for gold in golds) / len(golds) if golds else 0.0
