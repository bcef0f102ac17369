"""Is a reply right, wrong, or does it abstain? Rules a reader can check by hand, no model that judges.

A reply is right where, after normalisation, its first line starts with the answer: what comes later is not asked
for, and a model that goes on talking sooner or later names everything. A reply abstains where its first sentence
holds one of `ABSTENTIONS`, is one of `ABSTAINING_WORDS`, or where it holds the token `IDK`. Where a context does not
tell the answer, abstaining is right and everything else is not. Hallucinated: not right, and no abstention;
an empty reply counts as hallucinated, too, since it does not say that the answer is missing.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from routegraph.validate.prompts.prompt import Prompt

#: The token that a model may have learnt to abstain by.
IDK = "<idk>"
ARTICLES = frozenset(("a", "an", "the"))

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

#: What may stand before the answer without being a part of it.
LEAD_INS = ("answer", "answer is", "it is", "it's", "that is", "that's")

_SENTENCE = re.compile(r"[.!?](?=\s|$)")
_APOSTROPHES = re.compile(r"['’ʼ`´]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d)")


@dataclass(frozen=True)
class Verdict:
    """What became of a reply.

    Attributes
    ----------
    right, abstained : bool
        Both, where abstaining is right.
    """

    right: bool
    abstained: bool

    @property
    def hallucinated(self) -> bool:
        """Neither right nor an abstention."""
        return not (self.right or self.abstained)

    @property
    def word(self) -> str:
        """The class: "abstained", "right" or "wrong"."""
        return "abstained" if self.abstained else "right" if self.right else "wrong"


def normalise(text: str) -> str:
    """Return the words of a text: case folded, without punctuation and articles, one space between them.

    Apostrophes go without a trace (don't: dont), so do commas between digits; a point between digits stays. A text
    of articles only keeps them, since they are all it says.

    Examples
    --------
    >>> normalise("The  Old-Town's  1,903.5 owls!")
    'old towns 1903.5 owls'
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    plain = _THOUSANDS.sub("", _APOSTROPHES.sub("", folded))
    kept = "".join(
        character if unicodedata.category(character)[0] in "LMN" or _decimal_point(plain, place) else " "
        for place, character in enumerate(plain)
    )
    words = kept.split()
    return " ".join([word for word in words if word not in ARTICLES] or words)


def judge(prompt: Prompt, reply: str) -> Verdict:
    """Return what a reply to a prompt is worth; see the head of this module for the rules.

    Raises
    ------
    ValueError
        If the prompt is answerable and its answer has no word to match.
    """
    if not prompt.answerable:
        abstained = abstains(reply)
        return Verdict(abstained, abstained)
    # A right answer may hold a phrase of the list; then it is right, and no abstention.
    right = says(reply, prompt.answer)
    return Verdict(right, not right and abstains(reply))


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
    words = normalise(_first_line(reply)).split()
    starts = [0] + [len(lead) for lead in _LEADS if words[: len(lead)] == lead]
    return any(words[start : start + len(wanted)] == wanted for start in starts)


def abstains(reply: str) -> bool:
    """Return whether a reply says that it does not know, by the published lists."""
    if IDK in reply.casefold():
        return True
    sentence = normalise(_SENTENCE.split(_first_line(reply), maxsplit=1)[0])
    return sentence in _WORDS or any(f" {phrase} " in f" {sentence} " for phrase in _PHRASES)


def _first_line(reply: str) -> str:
    return next((line for line in reply.splitlines() if line.strip()), "").strip()


def _decimal_point(text: str, place: int) -> bool:
    return text[place] == "." and text[place - 1 : place].isdigit() and text[place + 1 : place + 2].isdigit()


_PHRASES = tuple(normalise(phrase) for phrase in ABSTENTIONS)
_WORDS = frozenset(normalise(word) for word in ABSTAINING_WORDS)
_LEADS = [normalise(lead).split() for lead in LEAD_INS]
