"""Multiple choice: right where the reply takes the option, by its letter or its text."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from routegraph.validate.graders.contains import contains
from routegraph.validate.graders.registry import grader
from routegraph.validate.graders.words import normalise, statement

_LONGBENCH = (
    re.compile(r"The correct answer is \(([A-D])\)"),
    re.compile(r"The correct answer is ([A-D])"),
)
_LETTERS = (
    re.compile(r"(?i:\b(?:answer|option|choice)\b(?:\s+(?:is|would be))?)\s*:?\s*[(\[]?([A-Z])\b(?!['’])"),
    re.compile(r"^[(\[]?([A-Z])(?:[)\].:]|\s*$|\s+(?:is|because|as|since)\b)"),
)


@grader("choice")
def choice(reply: str, golds: Sequence[str], choices: Sequence[str] = (), *, strict: bool = False) -> float:
    """Whether the reply takes the option that is the answer: by its letter, or by its text and no other's.

    strict : only "The correct answer is (X)" or "The correct answer is X" counts, the rule of LongBench v2.

    Notes
    -----
    Answers are letters, or texts of options. The first of these decides: "The correct answer is (X)"; a letter at
    the start, or after "answer", "option" or "choice"; an option's text in the first sentence, where no other
    option's is.
    """
    letters = string.ascii_uppercase[: len(choices) or 26]
    wanted = {letter for gold in golds if (letter := _letter_of(gold, choices, letters))}
    if not wanted:
        raise ValueError(f"answer {', '.join(map(repr, golds))} is neither a letter nor one of the choices")
    said = _taken(reply, choices, letters, strict)
    return float(said in wanted)


def _letter_of(gold: str, choices: Sequence[str], letters: str) -> str | None:
    same = [
        letter for letter, text in zip(letters, choices, strict=False) if normalise(text) == normalise(gold)
    ]
    if same:
        return same[0]
    letter = gold.strip().strip("().: ").upper()
    return letter if len(letter) == 1 and letter in letters else None


def _taken(reply: str, choices: Sequence[str], letters: str, strict: bool) -> str | None:
    plain = reply.replace("*", "")
    for pattern in _LONGBENCH:
        if found := pattern.search(plain):
            return found.group(1)
    if strict:
        return None
    said = statement(plain)
    for pattern in _LETTERS:
        if (found := pattern.search(said)) and found.group(1) in letters:
            return found.group(1)
    named = [
        letter
        for letter, text in zip(letters, choices, strict=False)
        if normalise(text) and contains(said, (text,))
    ]
    longest = max((choices[letters.index(letter)] for letter in named), key=len, default="")
    # An option that is a part of another one's text is not named by it.
    apart = [
        letter for letter in named if choices[letters.index(letter)].casefold() not in longest.casefold()
    ]
    named = [letters[choices.index(longest)], *apart] if named else []
    return named[0] if len(named) == 1 else None
