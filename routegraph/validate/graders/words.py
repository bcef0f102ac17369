"""What a text says, for graders: its words, its first line, and its first sentence."""

from __future__ import annotations

import re
import unicodedata

ARTICLES = frozenset(("a", "an", "the"))


def words(*lines: str) -> tuple[str, ...]:
    """Return the words of some lines; to write lists of words down."""
    return tuple(" ".join(lines).split())


#: Abbreviations after which a full stop ends no sentence.
_ABBREVIATIONS = words(
    "mr mrs ms dr prof st mt jr sr vs etc approx dept inc ltd co no nr fig cf ca e.g i.e",
    "jan feb mar apr jun jul aug sep sept oct nov dec",
)
#: First sentences that say nothing yet.
_OPENERS = (
    "yes", "no", "yeah", "ok", "okay", "sure", "certainly", "well", "answer", "of course", "based on text",
    "based on context", "according to text", "according to context",
)  # fmt: skip
_END = re.compile(r"[.!?…]+[\"'”’)\]*]*(?=\s|$)|[。！？｡]|\n")
_APOSTROPHES = re.compile(r"['’‘ʼ`´]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d)")


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
    said = kept.split()
    return " ".join([word for word in said if word not in ARTICLES] or said)


def first_line(reply: str) -> str:
    """Return the first line that is not blank; empty where there is none."""
    return next((line for line in reply.splitlines() if line.strip()), "").strip()


def statement(reply: str, initials: bool = False) -> str:
    """Return what a reply states: its first sentence, or the first one that says something.

    A line that ends in a colon goes on on the next one. Sentences such as "Sure." and "Yes." stay, and the one after
    them is taken, too. What comes later does not count: a model that goes on talking names everything in the end.

    initials : a full stop after a single capital letter ends no sentence ("J. F. Kennedy").
    """
    text = re.sub(r"[:：]\s*\n\s*", ": ", reply.strip())
    for found in _END.finditer(text):
        said = text[: found.start()]
        if not (found.group()[0] == "." and _abbreviated(said, initials)) and normalise(said) not in _OPENERS:
            return text[: found.end()].strip()
    return text


def _abbreviated(said: str, initials: bool) -> bool:
    last = said.split()[-1].lstrip("(\"'“‘*") if said.strip() else ""
    if re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", last):  # U.S., e.g.
        return True
    if len(last) == 1 and last.isupper():
        return initials or last == said.strip()
    return last.casefold() in _ABBREVIATIONS


def _decimal_point(text: str, place: int) -> bool:
    return text[place] == "." and text[place - 1 : place].isdigit() and text[place + 1 : place + 2].isdigit()
