"""Right where the reply states the number, within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from routegraph.validate.graders.registry import grader
from routegraph.validate.graders.tokens import tokens
from routegraph.validate.graders.words import statement


@grader("number")
def number(
    reply: str,
    golds: Sequence[str],
    choices: Sequence[str] = (),
    *,
    tolerance: float = 0.0,
    relative: float = 0.0,
) -> float:
    """Whether the first number that the first sentence with one states is the answer's, within a tolerance.

    tolerance, relative : the largest difference, and the largest one as a share of the answer; the larger counts.

    Raises
    ------
    ValueError
        If an answer holds no number, or a tolerance is negative.
    """
    if min(tolerance, relative) < 0:
        raise ValueError(f"tolerances must not be negative, got {min(tolerance, relative):g}")
    said = _first(statement(reply))
    for gold in golds:
        wanted = _first(gold)
        if wanted is None:
            raise ValueError(f"answer {gold!r} holds no number to compare replies with")
        slack = max(tolerance, relative * abs(wanted))
        # A hair for what binary fractions cannot hold: 0.3 is within .1 of .2.
        if said is not None and (
            abs(said - wanted) <= slack or math.isclose(abs(said - wanted), slack, rel_tol=1e-9)
        ):
            return 1.0
    return 0.0


def _first(text: str) -> float | None:
    return next((float(token.value) for token in tokens(text) if token.value is not None), None)
