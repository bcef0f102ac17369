"""The words that a reader is taught with, read from data/reader.toml: subjects, relations, sentences in between."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from routegraph.validate.tasks.picks import capital, values_of

#: The kind of subject that has pronouns of its own, and links to others of its kind.
PERSON = "person"
_PRONOUNS = {"she": ("her", "her"), "he": ("his", "him"), "it": ("its", "it")}
_GAPS = re.compile(r"\{(name|their|them)\}")


@dataclass(frozen=True)
class Subject:
    """Whom or what a text is about: its name, and she, he or it."""

    name: str
    pronoun: str


@dataclass(frozen=True)
class Part:
    """A question for one word of a value, counted from 0, and one for the subject by that word."""

    word: int
    ask: str
    who: str

    def of(self, value: str) -> str:
        """Return the word that is asked for."""
        return value.split()[self.word].rstrip(",")


@dataclass(frozen=True, eq=False)
class Relation:
    """What can be said of the subjects of one kind.

    Attributes
    ----------
    of : str
        The kind.
    says : str
        What is said, from the verb on.
    tell, ask, who : tuple of str
        Sentences that say it, questions for the value, and for the subject.
    values : tuple of str
        Empty where the value is a person.
    parts : tuple of Part
    noun : str
        What the value of a link is to the subject.
    held_out : bool
        Whether it is kept for validation.
    """

    of: str
    says: str
    tell: tuple[str, ...]
    ask: tuple[str, ...]
    who: tuple[str, ...]
    values: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    noun: str = ""
    held_out: bool = False

    @property
    def link(self) -> bool:
        """Whether the value is a person of whom more may be told."""
        return bool(self.noun)


@dataclass(frozen=True)
class Kind:
    """One kind of subject; without names for people, who are named by first name and surname."""

    name: str
    names: tuple[str, ...]
    openings: tuple[str, ...]
    closings: tuple[str, ...]
    details: tuple[str, ...]
    held_out: bool = False


@dataclass(frozen=True)
class Words:
    """All words of data/reader.toml."""

    she: tuple[str, ...]
    he: tuple[str, ...]
    surnames: tuple[str, ...]
    pairs: tuple[str, ...]
    kinds: tuple[Kind, ...]
    relations: tuple[Relation, ...]
    filler: Mapping[str, tuple[str, ...]]


@functools.cache
def words() -> Words:
    """Return the words, read once."""
    file = resources.files("routegraph") / "data" / "reader.toml"
    told = tomllib.loads(file.read_text(encoding="utf-8"))
    people, links = told["people"], told["links"]
    return Words(
        **{part: tuple(people[part]) for part in ("she", "he", "surnames", "pairs")},
        kinds=tuple(
            Kind(
                entry["name"],
                tuple(entry.get("names", ())),
                tuple(entry["openings"]),
                tuple(entry["closings"]),
                tuple(entry.get("details", people["details"])),
                entry.get("held_out", False),
            )
            for entry in told["kinds"]
        ),
        relations=(*map(_relation, told["relations"]), *(_link(noun, links) for noun in links["nouns"])),
        filler={part: tuple(choices) for part, choices in told["filler"].items()},
    )


def _relation(entry: Mapping[str, Any]) -> Relation:
    plain = ("Who " + entry["says"] + "?",) if entry["of"] == PERSON else ()
    return Relation(
        of=entry["of"],
        says=entry["says"],
        tell=("{name} " + entry["says"] + ".", *entry["tell"]),
        ask=tuple(entry["ask"]),
        who=(*plain, *entry["who"]),
        values=() if entry["values"] == "people" else values_of(entry["values"]),
        parts=tuple(Part(part["word"], part["ask"], part["who"]) for part in entry.get("parts", ())),
        held_out=entry.get("held_out", False),
    )


def _link(noun: str, links: Mapping[str, Any]) -> Relation:
    def say(template: str) -> str:
        return template.replace("{a}", article(noun)).replace("{noun}", noun)

    return Relation(
        of=PERSON,
        says=say(links["says"]),
        tell=("{name} " + say(links["says"]) + ".", *map(say, links["tell"])),
        ask=tuple(map(say, links["ask"])),
        who=tuple(map(say, links["who"])),
        values=(),
        noun=noun,
        held_out=noun in links["held_out"],
    )


def article(word: str) -> str:
    """Return the article that a word takes."""
    return "an" if word.lower().startswith(tuple("aeiou")) else "a"


def fill(template: str, subject: Subject, value: str = "", again: bool = False) -> str:
    """Return a template with its gaps filled and a capital first letter.

    The first gap that stands for the subject names it, those after it say she, he or it. `again`: the subject is
    known from the sentence before, so that the first gap need not name it; where a pronoun would not fit, since
    {name} does not come first, it does so nevertheless.
    """
    possessive, objective = _PRONOUNS[subject.pronoun]
    named = again

    def gap(match: re.Match[str]) -> str:
        nonlocal named
        which, known = match[1], named
        named = True
        if which == "name":
            return subject.pronoun if known and match.start() == 0 else subject.name
        if known:
            return possessive if which == "their" else objective
        return f"{owner(subject.name)}" if which == "their" else subject.name

    filled = _GAPS.sub(gap, template).replace("{value}", value).replace("{a}", article(value))
    return capital(filled)


def owner(name: str) -> str:
    """Return the possessive of a name."""
    return f"{name}'" if name.endswith("s") else f"{name}'s"
