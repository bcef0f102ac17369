"""What a task knows of its answers, and by it whether a wrong reply states another one: a hallucination.

It is told from what a cell of a measurement keeps: task, tags, question and answer. Tasks know their own values only: a
made-up product that is in no list is not seen, so that the share of hallucinations is a lower bound. Any number counts
where the answer holds one; where it is a name, a sentence that is nothing but a name does, and where it is a person any
two capitalised words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routegraph.validate.graders.contains import states
from routegraph.validate.graders.tokens import tokens
from routegraph.validate.graders.words import normalise, statement
from routegraph.validate.tasks import documents, lexicon
from routegraph.validate.tasks.long_replies import PARTS
from routegraph.validate.tasks.vocabulary import Asking, Relation, words

_NAME = re.compile(r"\b[A-Z][a-z]+ [A-Z][a-z]+\b")


@dataclass(frozen=True)
class Known:
    """What may answer a question.

    Attributes
    ----------
    values : tuple of str
        All answers that the task gives to questions of this type.
    people : bool
        Whether they are names of people, which the question may name, too.
    closed : bool
        Whether nothing but these values can be said: a language of a few words.
    """

    values: tuple[str, ...]
    people: bool = False
    closed: bool = False

    @property
    def numbers(self) -> bool:
        """Whether the answers hold numbers."""
        return any(character.isdigit() for value in self.values for character in value)

    @property
    def names(self) -> bool:
        """Whether the answers are names, with capital letters."""
        return not self.closed and all(value[0].isupper() for value in self.values)


def known(prompt: Mapping[str, Any]) -> Known | None:
    """Return what may answer a question, from what a cell keeps of its prompt; None where no task knows.

    prompt : mapping with "task", "tags", "question" and "answer".
    """
    tags, question = list(prompt.get("tags", ())), str(prompt.get("question", ""))
    if PARTS in tags:
        return None
    if "words" in tags:
        return _of_words(question.split())
    if prompt.get("task") == documents.TASK and tags:
        return next((_of_document(kind) for kind in documents.kinds() if kind.name == tags[0]), None)
    return _of_english(question)


def hallucinates(prompt: Mapping[str, Any], reply: str) -> bool | None:
    """Return whether the first sentence of a reply states a value of the right type that is not the answer.

    None where no task knows. What it says of a right reply or an abstention has no meaning.
    """
    about = known(prompt)
    if about is None:
        return None
    answer = str(prompt.get("answer", "")) if prompt.get("answerable", True) else ""
    said = statement(reply)
    if about.people:
        return _names_another(said, about.values, answer, str(prompt.get("question", "")))
    if about.numbers:
        own = {token.text for token in tokens(f"{answer} {prompt.get('question', '')}")}
        return any(token.value is not None and token.text not in own for token in tokens(said))
    if about.names and _is_name(said, f"{answer} {prompt.get('question', '')}"):
        return True
    return any(states(said, value) for value in about.values if normalise(value) != normalise(answer))


def _is_name(said: str, own: str) -> bool:
    """Whether a sentence is a name and nothing else, and not one that answer or question hold."""
    bare = re.sub(r"^(?:in |the |city of )+|[.!?,\"'*]+$", "", said.strip())
    name = re.fullmatch(r"(?:[A-Z][\w'’.-]*\s*){1,3}", bare) is not None
    return name and not set(normalise(own).split()) >= set(normalise(bare).split())


def _names_another(said: str, names: Sequence[str], answer: str, question: str) -> bool:
    """Whether a person is named who is neither the answer nor part of the question."""
    own = set(normalise(f"{answer} {question}").split())
    if _is_name(said, f"{answer} {question}"):
        return True
    if any(not own >= set(normalise(found).split()) for found in _NAME.findall(said)):
        return True
    # Those that the question names may be said again, but the answer in full is nobody else.
    listed = {word for name in names for word in normalise(name).split()}
    return bool(listed & set(normalise(said).split()) - own)


def _of_document(kind: documents.Kind) -> Known:
    return Known(kind.values, people=kind.name == "object-owner")


def _of_words(question: Sequence[str]) -> Known | None:
    if not question:
        return None
    if question[0] == lexicon.SPECIAL[lexicon.WHO] or question[-1] in lexicon.LINKS:
        return Known(lexicon.NAMES, closed=True)
    values = lexicon.ATTRIBUTES.get(question[-1])
    return Known(values, closed=True) if values else None


def _of_english(question: str) -> Known | None:
    told = words()
    if question.startswith("Who ") and any(
        _asks_who(asking, question) for _, asking in _askings(told.relations)
    ):
        return _everybody()
    for relation, asking in _askings((*told.relations, *told.links, *told.shared)):
        if re.match(_pattern(asking.question), question):
            if not relation.values:
                return _everybody()
            return Known(tuple(dict.fromkeys(asking.part(value) for value in relation.values)))
    if question.startswith("Who ") and any(
        _asks_who(asking, question) for _, asking in _askings((*told.links, *told.shared))
    ):
        return _everybody()
    return None


def _askings(relations: Iterable[Relation]) -> Iterable[tuple[Relation, Asking]]:
    return ((relation, asking) for relation in relations for asking in (relation.asking, *relation.parts))


def _asks_who(asking: Asking, question: str) -> bool:
    return re.search(_pattern(asking.who).replace(r"\?", ""), question) is not None


def _pattern(template: str) -> str:
    return re.sub(r"\\\{\w+\\\}", ".+", re.escape(template))


def _everybody() -> Known:
    told = words()
    return Known((*told.she, *told.he, *told.surnames), people=True)
