"""The words of the English tasks, read from data/tasks.toml."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from routegraph.validate.tasks.picks import capital, values_of


@dataclass(frozen=True)
class Asking:
    """One way to ask what a relation says: for its value, or for one word of it.

    Attributes
    ----------
    type : str
        What the answer is: person, thing, organization, creature, location, number, date or event.
    question, says, who : str
        The question for the value, the statement, and what it says of the person, from the verb on; {name} and
        {value} are gaps.
    word : int or None
        Which word of the value is asked for; None: all of it.
    """

    type: str
    question: str
    says: str
    who: str
    word: int | None = None

    def part(self, value: str) -> str:
        """Return what is asked for of a value."""
        return value if self.word is None else value.split()[self.word]


@dataclass(frozen=True, eq=False)
class Relation:
    """What can be said of a person.

    Attributes
    ----------
    name : str
    values : tuple of str
        Empty where the value is another person.
    statements : tuple of str
        Sentences that say it, the plain one first; {name} and {value} are gaps.
    asking : Asking
        How the value is asked for.
    parts : tuple of Asking
        How single words of it are.
    both : str
        What is said of two people with the same value, from the verb on; empty where it is not said.
    """

    name: str
    values: tuple[str, ...]
    statements: tuple[str, ...]
    asking: Asking
    parts: tuple[Asking, ...] = ()
    both: str = ""


@dataclass(frozen=True)
class Words:
    """All words: first names by pronoun, surnames, sentences that bring in two people, relations, and fillers."""

    she: tuple[str, ...]
    he: tuple[str, ...]
    surnames: tuple[str, ...]
    meetings: tuple[str, ...]
    relations: tuple[Relation, ...]
    links: tuple[Relation, ...]
    shared: tuple[Relation, ...]
    filler: Mapping[str, tuple[str, ...]]


@functools.cache
def words() -> Words:
    """Return the words, read once."""
    file = resources.files("routegraph") / "data" / "tasks.toml"
    told = tomllib.loads(file.read_text(encoding="utf-8"))
    people, links = told["people"], told["links"]
    link_entries = [
        {"name": noun, "type": "person", "values": ()}
        | {part: links[part].replace("{noun}", noun) for part in ("who", "says", "question")}
        | {"statements": [statement.replace("{noun}", noun) for statement in links["statements"]]}
        for noun in links["nouns"]
    ]
    return Words(
        **{part: tuple(people[part]) for part in ("she", "he", "surnames", "meetings")},
        relations=tuple(map(_relation, told["relations"])),
        links=tuple(map(_relation, link_entries)),
        shared=tuple(map(_relation, told["shared"])),
        filler={gap: tuple(choices) for gap, choices in told["filler"].items()},
    )


def _relation(entry: Mapping[str, Any]) -> Relation:
    asking = _asking(entry)
    return Relation(
        name=entry["name"],
        values=values_of(entry["values"]),
        statements=(capital(asking.says) + ".", *entry.get("statements", ())),
        asking=asking,
        parts=tuple(map(_asking, entry.get("parts", ()))),
        both=entry.get("both", ""),
    )


def _asking(entry: Mapping[str, Any]) -> Asking:
    return Asking(
        type=entry["type"],
        question=entry["question"],
        says=entry.get("says", "{name} " + entry["who"]),
        who=entry["who"],
        word=entry.get("word"),
    )
