"""Short English documents about several people, places or things, with one question each.

``python -m routegraph.validate.tasks.documents FILE`` writes the bundled prompts again, byte for byte.
"""

from __future__ import annotations

import functools
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TypeVar

import numpy as np

from routegraph.validate.prompts.prompt import Prompt, write_prompts

T = TypeVar("T")

TASK = "documents"
#: Where in the document the answer stands, by turns.
PLACES = ("early", "middle", "late")

# Chosen so that each of the 48 documents of seed 0 is longer than two chunks of 64 SmolLM2 tokens and leaves no
# last chunk of four tokens or fewer, which could not be scored by itself.
_STREAM = 48


@dataclass(frozen=True)
class Kind:
    """One kind of document: several subjects, of each of which one value is stated.

    Attributes
    ----------
    name, question, prefix : str
        Its name, what is asked, and how the answer begins.
    subjects : tuple of (str, str)
        Names with the pronoun they take; for people, to be combined with a surname.
    surnames : tuple of str
        Empty unless it is about people.
    values, statements, details, openings, closings : tuple of str
        Answers, the sentences that state one, the sentences that do not, and those that frame the document.
    """

    name: str
    question: str
    prefix: str
    subjects: tuple[tuple[str, str], ...]
    surnames: tuple[str, ...]
    values: tuple[str, ...]
    statements: tuple[str, ...]
    details: tuple[str, ...]
    openings: tuple[str, ...]
    closings: tuple[str, ...]


@functools.cache
def kinds() -> tuple[Kind, ...]:
    """Return the kinds of document, read from data/documents.toml."""
    file = resources.files("routegraph") / "data" / "documents.toml"
    words = tomllib.loads(file.read_text(encoding="utf-8"))
    people = words["people"]
    humans = tuple((name, pronoun) for pronoun in ("she", "he") for name in people[pronoun])
    return tuple(
        Kind(
            name=entry["name"],
            question=entry["question"],
            prefix=entry["prefix"],
            subjects=tuple((name, "it") for name in entry["subjects"]) if "subjects" in entry else humans,
            surnames=() if "subjects" in entry else tuple(people["surnames"]),
            details=tuple(entry.get("details", people["details"])),
            **{part: tuple(entry[part]) for part in ("values", "statements", "openings", "closings")},
        )
        for entry in words["kinds"]
    )


def generate(n: int = 48, seed: int = 0) -> list[Prompt]:
    """Return `n` prompts; the first m of them do not depend on `n`.

    A document frames three to six paragraphs, one a subject, each with one sentence that states the value
    asked for and some others about the same subject. The kinds of document take turns, and so do the places
    of the answer: in the first paragraph, in the middle, in the last.

    Parameters
    ----------
    n : int
        Number of prompts.
    seed : int
        Seed of everything that is drawn.

    Returns
    -------
    list of Prompt
        With the answer's only occurrence as answer span and the sentence that states it as evidence.

    Raises
    ------
    ValueError
        If n is below 1 or seed negative.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    return [_prompt(index, seed) for index in range(n)]


def _prompt(index: int, seed: int) -> Prompt:
    rng = np.random.default_rng([_STREAM, seed, index])
    kind = kinds()[index % len(kinds())]
    place = PLACES[index % len(PLACES)]
    subjects = _subjects(kind, 3 + int(rng.integers(4)), rng)
    values = _some(kind.values, len(subjects), rng)
    templates = _some(kind.statements * 2, len(subjects), rng)
    statements = [
        _fill(template, *subject, value)
        for template, subject, value in zip(templates, subjects, values, strict=True)
    ]
    details = _shares(_some(kind.details, 6 + int(rng.integers(7)), rng), len(subjects), rng)
    paragraphs = [
        _paragraph(statement, others, *subject, after=int(rng.integers(3)) > 0)
        for statement, others, subject in zip(statements, details, subjects, strict=True)
    ]
    opening, closings = _some(kind.openings, 1, rng), _some(kind.closings, 1 + int(rng.integers(2)), rng)
    context = "\n\n".join([*opening, *paragraphs, " ".join(closings)])
    asked = {"early": 0, "middle": len(subjects) // 2, "late": len(subjects) - 1}[place]
    value, statement = values[asked], statements[asked]
    evidence = context.index(statement)
    answer = evidence + statement.index(value)
    return Prompt(
        id=f"{TASK}-{seed}-{index:03d}",
        context=context,
        question=_fill(kind.question, *subjects[asked], value),
        answer=value,
        answer_prefix="Answer: " + _fill(kind.prefix, *subjects[asked], value),
        evidence=((evidence, evidence + len(statement)),),
        answer_spans=((answer, answer + len(value)),),
        task=TASK,
        tags=(kind.name, place, f"{len(subjects)} subjects"),
    )


def _subjects(kind: Kind, n: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return `n` names, each with its pronoun; people share no first name and no surname."""
    drawn = _some(kind.subjects, n, rng)
    if not kind.surnames:
        return drawn
    surnames = _some(kind.surnames, n, rng)
    return [(f"{first} {last}", pronoun) for (first, pronoun), last in zip(drawn, surnames, strict=True)]


def _shares(details: Sequence[str], n: int, rng: np.random.Generator) -> list[list[str]]:
    """Deal the details out to `n` subjects, at least one to each."""
    owners = [*range(n), *(int(owner) for owner in rng.integers(n, size=len(details) - n))]
    return [
        [detail for detail, owner in zip(details, owners, strict=True) if owner == subject]
        for subject in range(n)
    ]


def _paragraph(statement: str, details: Sequence[str], name: str, pronoun: str, after: bool) -> str:
    """Return the sentences about one subject: the details after the statement, or before it.

    Whichever comes first names the subject; the details that follow say he, she or it. Those that speak of
    something else come last, lest the pronoun be taken for that.
    """
    about = [detail for detail in details if "{" in detail]
    aside = [detail for detail in details if "{" not in detail]
    if after or not about:
        told = [statement, *(_fill(detail, name, pronoun, again=True) for detail in about)]
    else:
        first, *rest = about
        told = [_fill(first, name, pronoun), *(_fill(detail, name, pronoun, again=True) for detail in rest)]
        told.append(statement)
    return " ".join([*told, *aside])


def _fill(sentence: str, name: str, pronoun: str, value: str = "", again: bool = False) -> str:
    """Fill the gaps of a sentence; `again`: the subject has been named, so a pronoun will do."""
    possessive = f"{name}'" if name.endswith("s") else f"{name}'s"
    filled = sentence.format(
        name=name,
        they=pronoun if again else name,
        their={"she": "her", "he": "his", "it": "its"}[pronoun] if again else possessive,
        value=value,
        a="an" if value.startswith(tuple("aeiou")) else "a",
    )
    return filled[0].upper() + filled[1:]


def _some(choices: Sequence[T], n: int, rng: np.random.Generator) -> list[T]:
    """Return `n` of the choices in random order."""
    return [choices[number] for number in rng.permutation(len(choices))[:n]]


if __name__ == "__main__":
    write_prompts(sys.argv[1], generate())
