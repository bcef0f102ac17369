"""A naive reader of the English tasks: facts out of sentences, answers out of facts, by regular expressions.

It shares the words with the generator and nothing else: it knows neither how a prompt was made nor where its
evidence stands.
"""

from __future__ import annotations

import functools
import re
import tomllib
from importlib import resources
from typing import Any, NamedTuple

#: The tasks it reads.
ENGLISH = ("base", "manipulation", "multi_presence", "multi_entity", "long_context", "coreference", "hops")
WORDS = tomllib.loads((resources.files("routegraph") / "data" / "tasks.toml").read_text("utf-8"))
NAME = rf"(?:{'|'.join(WORDS['people']['she'] + WORDS['people']['he'])}) (?:{'|'.join(WORDS['people']['surnames'])})"


class Fact(NamedTuple):
    subject: str
    relation: str
    value: str


def sentences(context: str) -> list[str]:
    return [sentence for paragraph in context.split("\n\n") for sentence in re.split(r"(?<=\.) ", paragraph)]


def gaps(template: str, **patterns: str) -> str:
    """Return a pattern for a template: its gaps become named groups."""
    made = re.escape(template)
    for gap, pattern in patterns.items():
        made = made.replace(re.escape("{" + gap + "}"), f"(?P<{gap}>{pattern})", 1)
    return made


def one_of(values: list[Any]) -> str:
    if isinstance(values[0], str):
        return "|".join(map(re.escape, values))
    return " ".join(f"(?:{'|'.join(words)})" for words in values)


@functools.cache
def relations() -> dict[str, dict[str, Any]]:
    """Every relation by name, with the pattern of its values; those to people are written out by noun."""
    known = {entry["name"]: entry | {"pattern": one_of(entry["values"])} for entry in WORDS["relations"]}
    known |= {entry["name"]: entry | {"pattern": one_of(entry["values"])} for entry in WORDS["shared"]}
    links = WORDS["links"]
    for noun in links["nouns"]:
        entry = {part: links[part].replace("{noun}", noun) for part in ("who", "says", "question")}
        entry["statements"] = [text.replace("{noun}", noun) for text in links["statements"]]
        known[noun] = entry | {"pattern": NAME}
    return known


@functools.cache
def statements() -> list[tuple[str, re.Pattern[str]]]:
    made = []
    for name, entry in relations().items():
        plain = entry.get("says", "{name} " + entry["who"]) + "."
        for text in [plain[0].upper() + plain[1:] if plain[0] != "{" else plain, *entry["statements"]]:
            made.append((name, re.compile(gaps(text, name=NAME, value=entry["pattern"]))))
    return made


@functools.cache
def said_of_pronouns() -> list[tuple[str, re.Pattern[str]]]:
    return [
        (name, re.compile(rf"(?P<who>She|He|One of them) {gaps(entry['who'], value=entry['pattern'])}\."))
        for name, entry in relations().items()
    ]


@functools.cache
def meetings() -> list[re.Pattern[str]]:
    return [re.compile(gaps(text, she=NAME, he=NAME)) for text in WORDS["people"]["meetings"]]


@functools.cache
def filler() -> re.Pattern[str]:
    parts = {gap: "|".join(map(re.escape, texts)) for gap, texts in WORDS["filler"].items()}
    return re.compile(rf"(?:(?:{parts['when']}) )?(?:{parts['who']}|{NAME}(?: and {NAME})?) (?:{parts['did']}) "
                      rf"(?:{parts['what']})(?: (?:{parts['where']}))?\.", re.IGNORECASE)  # fmt: skip


def read(context: str) -> set[Fact]:
    """Return what a context tells; every sentence must have one meaning, or be a filler."""
    facts = set()
    for paragraph in context.split("\n\n"):
        here: dict[str, str] = {}
        for sentence in sentences(paragraph):
            found = [
                Fact(match["name"], relation, match["value"])
                for relation, pattern in statements()
                if (match := pattern.fullmatch(sentence))
            ]
            met = [match.groupdict() for pattern in meetings() if (match := pattern.fullmatch(sentence))]
            pronoun = [
                (match["who"].lower(), relation, match["value"])
                for relation, pattern in said_of_pronouns()
                if (match := pattern.fullmatch(sentence))
            ]
            assert len(found) + len(met) + len(pronoun) + bool(filler().fullmatch(sentence)) == 1, sentence
            for people in met:
                assert not here, "who is she, and who is he?"
                here = people
            facts |= set(found)
            facts |= {Fact(here[who], *told) for who, *told in pronoun if who in here}
    return facts


def answers(question: str, facts: set[Fact]) -> set[str]:
    """Return everything that answers a question; it must have one meaning."""
    question = question.partition(" If the text does not tell")[0]
    if question.startswith("Who ") and not question.startswith("Who is "):
        return fits(question[4:-1], facts)
    found = []
    for name, entry in relations().items():
        for asking in (entry, *entry.get("parts", ())):
            if match := re.fullmatch(gaps(asking["question"], name=".+"), question):
                told = [values(person, name, facts) for person in match["name"].split(" and ")]
                assert len(told) == 1 + ("both" in entry), question
                found.append({part(asking, value) for value in set.intersection(*told)})
    assert len(found) == 1, question
    return found[0]


def part(asking: dict[str, Any], value: str) -> str:
    return value.split()[asking["word"]] if "word" in asking else value


def values(phrase: str, relation: str, facts: set[Fact]) -> set[str]:
    """Return what a relation says of a person, or of the teacher of the doctor of a person."""
    people = {phrase}
    if match := re.fullmatch(r"the (\w+) of (.+)", phrase):
        people = values(match[2], match[1], facts)
    else:
        assert re.fullmatch(NAME, phrase), phrase
    return {fact.value for fact in facts if fact.subject in people and fact.relation == relation}


def fits(who: str, facts: set[Fact]) -> set[str]:
    """Return of whom something is said, such as "has a teacher who lives in Oslo"."""
    if match := re.fullmatch(r"has a (\w+) who (.+)", who):
        inner = fits(match[2], facts)
        return {fact.subject for fact in facts if fact.relation == match[1] and fact.value in inner}
    if " and " in who:
        return set.intersection(*(fits(one, facts) for one in who.split(" and ")))
    found = []
    for name, entry in relations().items():
        for asking in (entry, *entry.get("parts", ())):
            asked = "|".join(entry["values"][asking["word"]]) if "word" in asking else entry["pattern"]
            if match := re.fullmatch(gaps(asking["who"], value=asked), who):
                told = [fact for fact in facts if fact.relation == name]
                found.append({fact.subject for fact in told if part(asking, fact.value) == match["value"]})
    assert len(found) == 1, who
    return found[0]
