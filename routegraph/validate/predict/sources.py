"""Where a context says what a reply says: the longest run of the reply's words that the context holds."""

from __future__ import annotations

import re

from routegraph.validate.graders.abstention import abstains
from routegraph.validate.prompts.fields import Prompt, Span
from routegraph.validate.prompts.occurrences import occurrences

_WORD = re.compile(r"\S+")
#: Words of a reply that are looked at.
_MOST = 40
#: What may stand around words and is none of them.
_MARKS = ".,;:!?\"'()[]"


def sources_of(context: str, reply: str) -> tuple[Span, ...]:
    """Return all places in a context of the longest run of words of a reply that occurs there.

    Of equally long runs all count. Empty where none occurs, or where the reply abstains.

    Examples
    --------
    >>> sources_of("Ada lives in Oslo. Bob lives in Rome.", "She lives in Rome")
    ((23, 36),)
    """
    if abstains(reply):
        return ()
    words = _WORD.findall(reply)[:_MOST]
    for length in range(len(words), 0, -1):
        found: set[Span] = set()
        for start in range(len(words) - length + 1):
            said = " ".join(words[start : start + length]).strip(_MARKS)
            found.update(occurrences(Prompt("", context, answer=said)) if said else ())
        if found:
            return tuple(sorted(found))
    return ()
