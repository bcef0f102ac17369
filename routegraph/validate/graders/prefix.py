"""Right where the first line of a reply starts with the answer."""

from __future__ import annotations

from collections.abc import Sequence

from routegraph.validate.graders.registry import grader
from routegraph.validate.graders.words import first_line, normalise

#: What may stand before the answer without being a part of it.
LEAD_INS = ("answer", "answer is", "it is", "it's", "that is", "that's")


@grader("prefix")
def prefix(reply: str, golds: Sequence[str], choices: Sequence[str] = ()) -> float:
    """Whether the first line starts with an answer, word by word: case, punctuation and articles aside."""
    return float(any(says(reply, gold) for gold in golds))


def says(reply: str, answer: str) -> bool:
    """Return whether the first line of a reply starts with the answer, word by word after normalisation.

    Raises
    ------
    ValueError
        If the answer has no word.
    """
    wanted = normalise(answer).split()
    if not wanted:
        raise ValueError(f"answer {answer!r} has no word to match replies by")
    words = normalise(first_line(reply)).split()
    starts = [0] + [len(lead) for lead in _LEADS if words[: len(lead)] == lead]
    return any(words[start : start + len(wanted)] == wanted for start in starts)


_LEADS = [normalise(lead).split() for lead in LEAD_INS]
