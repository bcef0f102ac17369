"""Does a reply say that it does not know? By published lists that a reader can check."""

from __future__ import annotations

import re

from routegraph.validate.graders.words import first_line, normalise

#: The token that a model may have learnt to abstain by.
IDK = "<idk>"

#: Phrases that make a first sentence an abstention, wherever in it they stand.
ABSTENTIONS = (
    "I don't know",
    "I do not know",
    "I'm not sure",
    "I am not sure",
    "I can't tell",
    "I cannot tell",
    "I can't answer",
    "I cannot answer",
    "I'm sorry",
    "I am sorry",
    "I apologize",
    "not known",
    "not mentioned",
    "not stated",
    "not specified",
    "not given",
    "not provided",
    "not said",
    "not clear",
    "not possible to tell",
    "not possible to determine",
    "no information",
    "not enough information",
    "no mention",
    "no answer",
    "does not say",
    "doesn't say",
    "does not tell",
    "doesn't tell",
    "does not mention",
    "doesn't mention",
    "does not specify",
    "doesn't specify",
    "does not state",
    "doesn't state",
    "does not provide",
    "doesn't provide",
    "cannot be determined",
    "can't be determined",
    "cannot be answered",
    "can't be answered",
    "unable to answer",
    "unable to determine",
)
#: Words that are an abstention where they are the whole first sentence ("The unknown soldier" is none).
ABSTAINING_WORDS = (
    "unknown",
    "unclear",
    "unspecified",
    "undetermined",
    "unanswerable",
    "idk",
    "n/a",
    "not sure",
)

_SENTENCE = re.compile(r"[.!?](?=\s|$)")


def abstains(reply: str) -> bool:
    """Return whether a reply says that it does not know, by the published lists."""
    if IDK in reply.casefold():
        return True
    # "The answer is:" goes on on the next line.
    line = first_line(re.sub(r":\s*\n\s*", ": ", reply.lstrip()))
    sentence = normalise(_SENTENCE.split(line, maxsplit=1)[0])
    return sentence in _WORDS or any(f" {phrase} " in f" {sentence} " for phrase in _PHRASES)


_PHRASES = tuple(normalise(phrase) for phrase in ABSTENTIONS)
_WORDS = frozenset(normalise(word) for word in ABSTAINING_WORDS)
