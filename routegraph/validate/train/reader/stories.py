"""Stories that a reader is taught with: several subjects, what is told of them, and questions about it.

A story is drawn from a seed and a number alone. Its facts are cells of a table of subjects and relations, some of
which are empty; a value belongs to one subject only, so that every question has one answer. About half of the
questions without an answer are near misses: the subject is there, others have what is asked for, and this one not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from routegraph.validate.prompts.prompt import Span
from routegraph.validate.tasks.picks import Picks, capital
from routegraph.validate.tasks.story import UNKNOWN
from routegraph.validate.train.reader.words import PERSON, Kind, Relation, Subject, fill, owner, words

#: Questions of a story at most, and the share of them that has no answer.
QUESTIONS, UNANSWERABLE = 8, 0.42
#: Shares of the layouts of a story about people: in paragraphs, strewn about, in pairs of a woman and a man, in chains.
LAYOUTS = {"paragraphs": 0.4, "strewn": 0.3, "pairs": 0.12, "chain": 0.18}
#: Share of stories about people.
_PEOPLE = 0.7
#: Words that a context is filled up to, least and most.
_LENGTH = 45, 430
_SHAPES = (("when", "who", "did", "what", "where"), ("who", "did", "what", "where"), ("who", "did", "what"))
_STREAM = 2603


@dataclass(frozen=True)
class Fact:
    """A value of a subject, told in one sentence of the text; `names` it unless it says she, he or it."""

    subject: Subject
    relation: Relation
    value: str
    template: str

    def sentence(self, again: bool = False) -> str:
        """Return the sentence; see `fill`."""
        return fill(self.template, self.subject, self.value, again)


@dataclass(frozen=True)
class Asked:
    """A question about a story, its answer, and the places of the facts that it follows from.

    Attributes
    ----------
    question, answer : str
    kind : str
        forward, part, inverse, inverse part, hop or inverse hop; after "unknown " where there is no answer.
    facts : tuple of Fact
        Empty where there is no answer.
    """

    question: str
    answer: str
    kind: str
    facts: tuple[Fact, ...] = ()

    @property
    def answerable(self) -> bool:
        """Whether the text tells."""
        return bool(self.facts)


@dataclass(frozen=True)
class Story:
    """A text, what it tells, and what is asked about it.

    Attributes
    ----------
    context : str
    facts : dict from Fact to (int, int)
        Characters of the sentence that tells it.
    asked : tuple of Asked
    """

    context: str
    facts: dict[Fact, Span]
    asked: tuple[Asked, ...]


def story(seed: int, number: int, held_out: bool = False) -> Story:
    """Return story `number` of a seed.

    Parameters
    ----------
    seed, number : int
    held_out : bool
        Of the kinds and relations that are kept from training, instead of all others.
    """
    return _Teller(np.random.default_rng([_STREAM, seed, number, int(held_out)]), held_out).tell()


class _Teller(Picks):
    """Everything that one story is drawn from."""

    def __init__(self, rng: np.random.Generator, held_out: bool) -> None:
        super().__init__(rng)
        self.held_out = held_out
        self.first = {"she": self.some(words().she, 99), "he": self.some(words().he, 199)}
        self.last = self.some(words().surnames, 199)
        self.taken: set[str] = set()

    # -- drawing ----------------------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def person(self, pronoun: str | None = None) -> Subject:
        """Return somebody new, now and then with the surname of somebody else."""
        pronoun = pronoun or self.pick(("she", "he"))
        alike = self.taken and self.chance(0.12)
        surname = self.pick(sorted(self.taken)) if alike else self.last.pop()
        self.taken.add(surname)
        return Subject(f"{self.first[pronoun].pop()} {surname}", pronoun)

    def kind(self) -> Kind:
        """Return the kind that a story is about."""
        people = next(kind for kind in words().kinds if kind.name == PERSON)
        others = [k for k in words().kinds if k is not people and k.held_out == self.held_out]
        return people if self.chance(_PEOPLE) else self.pick(others)

    def relations(self, kind: Kind, links: bool) -> list[Relation]:
        """Return the relations of a kind, in random order; of the links one in six, lest they crowd out the rest."""
        mine = [
            r
            for r in words().relations
            if r.of == kind.name and (r.held_out == self.held_out or kind.held_out)
        ]
        plain, linked = [r for r in mine if not r.link], [r for r in mine if r.link]
        return self.some([*plain, *(self.some(linked, max(2, len(plain) // 5)) if links else ())], len(mine))

    def fact(self, subject: Subject, relation: Relation, value: str) -> Fact:
        # The plain wording first, as it is the most frequent one.
        return Fact(subject, relation, value, self.pick(relation.tell))

    def values(self, relation: Relation) -> Iterator[str]:
        """Yield values of a relation, each once."""
        if not relation.values:
            return iter(lambda: self.person().name, "")
        return iter(self.some(relation.values, 40))

    def filler(self, names: Sequence[str] = ()) -> str:
        """Return a sentence that tells nothing of what is asked for."""
        if self.chance(0.2):
            return self.pick(words().filler["asides"])
        said = {gap: self.pick(choices) for gap, choices in words().filler.items()}
        if names:
            said["who"] = self.pick(names)
        sentence = " ".join(said[gap] for gap in self.pick(_SHAPES))
        return f"{capital(sentence)}."

    # -- telling ----------------------------------------------------------------------------------------------

    def tell(self) -> Story:
        kind = self.kind()
        layout = "paragraphs" if self.chance(0.6) else "strewn"
        if kind.name == PERSON:
            layout = str(self.rng.choice(list(LAYOUTS), p=list(LAYOUTS.values())))
        least, most = _LENGTH
        room = int(least + (most - least) * self.rng.random() ** 1.7)  # more short ones than long ones
        if layout == "chain":
            subjects, table = self.chain(kind)
        else:
            subjects, table = self.grid(kind, layout, room)
        facts = [fact for row in table for fact in row]
        tell = {"paragraphs": self.paragraphs, "pairs": self.in_pairs}.get(layout, self.strewn)
        context, spans = tell(kind, subjects, table, room)
        asked = self.questions(kind, subjects, facts, context)
        return Story(context, {fact: spans[fact] for fact in facts}, tuple(asked))

    def grid(self, kind: Kind, layout: str, room: int) -> tuple[list[Subject], list[list[Fact]]]:
        """Return subjects, and of each the facts that are told, from a table with some cells empty."""
        most = max(1, min(7, room // 45))
        n = 2 * int(self.rng.integers(1, 3)) if layout == "pairs" else int(self.rng.integers(1, most + 1))
        if kind.names:
            subjects = [Subject(name, "it") for name in self.some(kind.names, n)]
        elif layout == "pairs":
            subjects = [
                self.person(pronoun) for _ in range(n // 2) for pronoun in self.some(("she", "he"), 2)
            ]
        else:
            subjects = [self.person() for _ in range(n)]
        width = int(self.rng.integers(1, max(1, min(6, 14 // n)) + 1))
        if n == 1:
            width += 1
        # A value that is a person would make a pronoun unclear.
        chosen = self.relations(kind, links=layout != "pairs")[:width]
        if layout == "pairs":
            chosen = [relation for relation in chosen if relation.values]
        missing = self.pick((0.0, 0.15, 0.3, 0.45))
        values = {relation: self.values(relation) for relation in chosen}
        table = [
            [
                self.fact(subject, relation, next(values[relation]))
                for relation in self.some(chosen, width)
                if not self.chance(missing)
            ]
            for subject in subjects
        ]
        return subjects, table

    def chain(self, kind: Kind) -> tuple[list[Subject], list[list[Fact]]]:
        """Return people of whom one is the next one's coach, or the like, and a relation told of most of them."""
        relations = self.relations(kind, links=True)
        links = self.some([relation for relation in relations if relation.link], 2)
        plain = [relation for relation in relations if relation.values][: int(self.rng.integers(1, 3))]
        subjects = [self.person() for _ in range(int(self.rng.integers(3, 7)))]
        values = {relation: self.values(relation) for relation in plain}
        table: list[list[Fact]] = [
            [self.fact(subject, r, next(values[r])) for r in plain if self.chance(0.8)]
            for subject in subjects
        ]
        for place, (subject, other) in enumerate(pairwise(subjects)):
            if self.chance(0.75):
                table[place].append(self.fact(subject, self.pick(links), other.name))
        return subjects, table

    def paragraphs(
        self, kind: Kind, subjects: Sequence[Subject], table: Sequence[Sequence[Fact]], room: int
    ) -> tuple[str, dict[Fact, Span]]:
        """Tell of one subject after the other, with an opening, details and a closing."""
        text = _Text()
        if self.chance(0.8):
            text.add(self.pick(kind.openings), apart=True)
        details = self.some(kind.details, 99)
        spare = max(0, room - 12 * sum(map(len, table))) // 9
        each = spare // max(1, len(subjects))
        for subject, facts in zip(subjects, table, strict=True):
            n = min(len(details), int(self.rng.integers(0, each + 1)) if each else 0, 5)
            told: list[Fact | str] = [*facts, *(details.pop() for _ in range(n))]
            if not told and details:
                told = [details.pop()]
            pronouns, again = self.chance(0.75), False
            for number, part in enumerate(self.some(told, len(told))):
                if isinstance(part, Fact):
                    text.add(part.sentence(again), apart=number == 0, fact=part)
                else:
                    text.add(fill(part, subject, again=again), apart=number == 0)
                # After another person a pronoun would be unclear.
                again = pronouns and (isinstance(part, str) or bool(part.relation.values))
            if self.chance(0.25):
                text.add(self.filler())
        if self.chance(0.7):
            text.add(self.pick(kind.closings), apart=True)
        return text.text, text.spans

    def strewn(
        self, kind: Kind, subjects: Sequence[Subject], table: Sequence[Sequence[Fact]], room: int
    ) -> tuple[str, dict[Fact, Span]]:
        """Tell the facts in any order, names and all, fillers in between."""
        names: list[str] = []
        if kind.name == PERSON and self.chance(0.75):
            names = [self.person().name for _ in range(int(self.rng.integers(1, 5)))]
            if self.chance(0.5):
                names += [subject.name for subject in subjects]
            if self.chance(0.3):
                names += [f"{one.name} and {other}" for one, other in zip(subjects, names[:2], strict=False)]
        parts: list[Fact | str] = [fact for row in table for fact in row]
        n = max(0, room - 11 * len(parts)) // 10
        fillers = [
            fill(self.pick(kind.details), self.pick(subjects))
            if self.chance(0.15)
            else self.filler(names if self.chance(0.8) else ())
            for _ in range(n)
        ]
        # Every subject is at least spoken of.
        silent = [subject for subject, row in zip(subjects, table, strict=True) if not row]
        fillers += [fill(self.pick(kind.details), subject) for subject in silent]
        text, run = _Text(), self.pick((3, 5, 8, 99))
        for number, part in enumerate(self.some([*parts, *fillers], len(parts) + len(fillers))):
            apart = number % run == 0
            if isinstance(part, Fact):
                text.add(part.sentence(), apart, part)
            else:
                text.add(part, apart)
        return text.text, text.spans

    def in_pairs(
        self, kind: Kind, subjects: Sequence[Subject], table: Sequence[Sequence[Fact]], room: int
    ) -> tuple[str, dict[Fact, Span]]:
        """Bring in a woman and a man, then say what she does and what he does."""
        text = _Text()
        spare = max(0, room - 15 * sum(map(len, table))) // 10
        for start in range(0, len(subjects), 2):
            for _ in range(int(self.rng.integers(0, spare // len(subjects) + 2))):
                text.add(self.filler(), apart=self.chance(0.3))
            pair = {subject.pronoun: subject.name for subject in subjects[start : start + 2]}
            text.add(self.pick(words().pairs).format(**pair), apart=True)
            facts = [fact for row in table[start : start + 2] for fact in row]
            for fact in self.some(facts, len(facts)):
                text.add(fact.sentence(again=True), fact=fact)
        for _ in range(int(self.rng.integers(0, spare // 2 + 1))):
            text.add(self.filler(), apart=self.chance(0.3))
        return text.text, text.spans

    # -- asking -----------------------------------------------------------------------------------------------

    def questions(
        self, kind: Kind, subjects: Sequence[Subject], facts: Sequence[Fact], context: str
    ) -> list[Asked]:
        """Return some questions with an answer and some without, mixed."""
        told = list(self.answerable(facts))
        untold = list(self.unanswerable(kind, subjects, facts, context))
        n_untold = int(self.rng.binomial(QUESTIONS, UNANSWERABLE))
        chosen = [*self.some(told, QUESTIONS - n_untold), *self.some(untold, n_untold)]
        return self.some(chosen, len(chosen))

    def answerable(self, facts: Sequence[Fact]) -> Iterator[Asked]:
        """Yield questions that the facts answer."""
        behind = {fact.value: fact for fact in facts if fact.relation.link}
        for fact in facts:
            yield Asked(self.ask(fact.relation, fact.subject), fact.value, "forward", (fact,))
            for part in fact.relation.parts:
                word = part.of(fact.value)
                yield Asked(fill(part.ask, fact.subject), word, "part", (fact,))
                alike = [other for other in facts if other.relation is fact.relation]
                if sum(part.of(other.value) == word for other in alike) == 1:
                    asks = fill(part.who, Subject("", "it"), word)
                    yield Asked(asks, capital(fact.subject.name), "inverse part", (fact,))
            if fact.relation.who:
                yield Asked(
                    self.who(fact.relation, fact.value), capital(fact.subject.name), "inverse", (fact,)
                )
            link = behind.get(fact.subject.name)
            if link is not None:
                middle = Subject(f"{owner(link.subject.name)} {link.relation.noun}", fact.subject.pronoun)
                yield Asked(self.ask(fact.relation, middle), fact.value, "hop", (link, fact))
                yield Asked(
                    self.who_behind(link.relation, fact), link.subject.name, "inverse hop", (link, fact)
                )

    def unanswerable(
        self, kind: Kind, subjects: Sequence[Subject], facts: Sequence[Fact], context: str
    ) -> Iterator[Asked]:
        """Yield questions that the facts do not answer: near misses for the most part."""
        cells = {(fact.subject, fact.relation) for fact in facts}
        here = list(dict.fromkeys(fact.relation for fact in facts))
        elsewhere = [r for r in self.relations(kind, links=True) if r not in here]
        links = {fact.value: fact for fact in facts if fact.relation.link}
        used = {fact.value for fact in facts}
        for subject in subjects:
            # What is told of others, twice, so that it comes up more often; and what is told of nobody.
            for relation in [*here, *here, *elsewhere[:2]]:
                if (subject, relation) not in cells:
                    yield Asked(self.ask(relation, subject), UNKNOWN, "unknown forward")
                    link = links.get(subject.name)
                    if link is not None:
                        middle = Subject(f"{owner(link.subject.name)} {link.relation.noun}", subject.pronoun)
                        yield Asked(self.ask(relation, middle), UNKNOWN, "unknown hop")
        # A stranger, who may share a name with somebody.
        stranger = self.person() if not kind.names else Subject(self.pick(kind.names), "it")
        if stranger.name not in context and here:
            yield Asked(self.ask(self.pick(here), stranger), UNKNOWN, "unknown forward")
        for relation in [*here, *elsewhere[:1]]:
            if relation.who and relation.values:
                fresh = [v for v in self.some(relation.values, 12) if v not in used and v not in context]
                for value in fresh[: 2 if relation in here else 1]:
                    yield Asked(self.who(relation, value), UNKNOWN, "unknown inverse")
            elif relation.who:
                # Somebody who is there, but nobody's coach, or the like; or a stranger.
                there = [subject.name for subject in subjects if subject.name not in used]
                known = kind.name == PERSON and there and self.chance(0.6)
                value = self.pick(there) if known else self.person().name
                yield Asked(self.who(relation, value), UNKNOWN, "unknown inverse")

    def ask(self, relation: Relation, subject: Subject) -> str:
        return fill(self.pick(relation.ask), subject)

    def who(self, relation: Relation, value: str) -> str:
        return fill(self.pick(relation.who), Subject("", "it"), value)

    def who_behind(self, link: Relation, fact: Fact) -> str:
        """Return the question for somebody of whose coach, or the like, a fact is told."""
        says = fill("{name} " + fact.relation.says, Subject("who", "it"), fact.value)[4:]
        return fill(f"Who {link.says.replace('{value}', 'somebody')} who {says}?", Subject("", "it"))


class _Text:
    """A text that grows sentence by sentence."""

    def __init__(self) -> None:
        self.text = ""
        self.spans: dict[Fact, Span] = {}

    def add(self, sentence: str, apart: bool = False, fact: Fact | None = None) -> None:
        """Append a sentence, after a blank line where it stands `apart`."""
        if self.text:
            self.text += "\n\n" if apart else " "
        if fact is not None:
            self.spans[fact] = len(self.text), len(self.text) + len(sentence)
        self.text += sentence
