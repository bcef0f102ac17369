"""The seven tasks in plain English: what each of them tells, and what it asks.

Questions run both ways by turns: from subject to attribute ("forward") and from attribute to subject ("inverse").
Every second prompt is the twin of the one before: a fact that the answer needs is not told, all else is, and the
right answer is "I don't know". Tags are direction, type of the answer and difficulty:

- standard: the fact is worded as the question is;
- manipulated: it is worded otherwise, or a pronoun has been exchanged;
- part: one word of what is told is asked for, such as the year of a date.

A task is a function from a `Draw` to a `Story`; `english` makes prompts of that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from routegraph.validate.tasks.picks import capital
from routegraph.validate.tasks.story import Draw, Question, Sentence, Story, english
from routegraph.validate.tasks.vocabulary import Asking, Relation, words


@dataclass(frozen=True)
class Topic:
    """The relation that is asked for, how, and in which of its wordings it is told."""

    relation: Relation
    asking: Asking
    wording: int
    difficulty: str

    def tags(self, draw: Draw) -> tuple[str, str, str]:
        """Return direction, type of the answer and difficulty."""
        if draw.inverse:
            return "inverse", "person", self.difficulty
        return "forward", self.asking.type, self.difficulty

    def say(self, name: str, value: str) -> Sentence:
        """Return the sentence that tells it of a person."""
        return say(self.relation, name, value, self.wording)

    def ask(self, draw: Draw, name: str, value: str, links: list[Relation] | None = None) -> Question:
        """Ask for the value or, inversely, for the person, from whom some links may lead to the value's owner."""
        who = self.asking.who.format(value=self.asking.part(value))
        owner = name
        for link in links or []:
            owner = f"the {link.name} of {owner}"
        for link in reversed(links or []):
            who = f"has a {link.name} who {who}"
        if draw.inverse:
            return Question(f"Who {who}?", f"The person who {who} is named", name)
        prefix = capital(self.asking.says.partition(" {value}")[0].format(name=owner))
        return Question(self.asking.question.format(name=owner), prefix, self.asking.part(value))


def say(relation: Relation, name: str, value: str, wording: int = 0) -> Sentence:
    """Return the sentence that says a relation of a person; wording 0 is the plain one."""
    return Sentence(capital(relation.statements[wording].format(name=name, value=value)))


def draw_topic(draw: Draw, links: bool = True) -> Topic:
    """Draw what is asked for: a relation of a person or, with `links`, to another person."""
    place = int(draw.rng.integers(len(words().relations) + links))
    relation = draw.pick(words().links) if place == len(words().relations) else words().relations[place]
    difficulty = draw.pick(
        ("standard", "manipulated", "part") if relation.parts else ("standard", "manipulated")
    )
    return _topic(draw, relation, difficulty)


def _topic(draw: Draw, relation: Relation, difficulty: str) -> Topic:
    asking = draw.pick(relation.parts) if difficulty == "part" else relation.asking
    wording = 1 + int(draw.rng.integers(len(relation.statements) - 1)) if difficulty == "manipulated" else 0
    return Topic(relation, asking, wording, difficulty)


def _besides(draw: Draw, topic: Topic, n: int) -> list[Relation]:
    """Draw `n` relations other than the topic's."""
    return draw.some([relation for relation in words().relations if relation != topic.relation], n)


def _one_person(draw: Draw) -> tuple[Topic, str, str, Sentence, list[Sentence]]:
    """Draw a topic, a person, what is told of both, the sentence that tells it, and four others about the person."""
    topic, name = draw_topic(draw), draw.name()
    value = next(draw.values(topic.relation))
    fact = topic.say(name, value)
    others = [say(relation, name, next(draw.values(relation))) for relation in _besides(draw, topic, 4)]
    return topic, name, value, fact, others


@english("base")
def base(draw: Draw) -> Story:
    """One person of whom five things are told, and one is asked; others are about."""
    topic, name, value, fact, others = _one_person(draw)
    return Story(
        asks=topic.ask(draw, name, value),
        tags=topic.tags(draw),
        blocks=[draw.some([fact, *others], 5)],
        evidence=[fact],
        twin={fact: None},
        # Were there one name only, whoever is asked for would be known without the fact.
        who=[draw.name() for _ in range(4)],
    )


@english("manipulation")
def manipulation(draw: Draw) -> Story:
    """Biographies of several people from one template, with other values in its gaps."""
    topic, name = draw_topic(draw), draw.name()
    value = next(draw.values(topic.relation))
    order = draw.some([topic.relation, *_besides(draw, topic, 3)], 4)
    wordings = {relation: draw.pick(range(len(relation.statements))) for relation in order}
    wordings[topic.relation] = topic.wording
    answer = topic.asking.part(value)
    values = {
        relation: draw.values(relation, topic.asking, answer)
        if relation == topic.relation
        else draw.values(relation)
        for relation in order
    }

    def biography(person: str, known: dict[Relation, str]) -> list[Sentence]:
        return [
            say(relation, person, known.get(relation) or next(values[relation]), wordings[relation])
            for relation in order
        ]

    asked = biography(name, {topic.relation: value})
    fact = asked[order.index(topic.relation)]
    return Story(
        asks=topic.ask(draw, name, value),
        tags=topic.tags(draw),
        blocks=[asked, biography(draw.name(), {})],
        evidence=[fact],
        twin={fact: None},
        others=(biography(draw.name(), {}) for _ in itertools.count()),
    )


@english("multi_presence")
def multi_presence(draw: Draw) -> Story:
    """One person who is named in every sentence, with five facts strewn in."""
    topic, name, value, fact, others = _one_person(draw)
    return Story(
        asks=topic.ask(draw, name, value),
        tags=topic.tags(draw),
        blocks=[[sentence] for sentence in (fact, *others)],
        evidence=[fact],
        twin={fact: None},
        who=[
            name,
            *(f"{name} and {draw.name()}" for _ in range(2)),
            *(f"{draw.name()} and {name}" for _ in range(2)),
        ],
    )


@english("multi_entity")
def multi_entity(draw: Draw) -> Story:
    """People linked to each other, of all of whom the same thing is told, and it is asked of one."""
    topic = draw_topic(draw)
    link = draw.pick([link for link in words().links if link != topic.relation])
    first, second, third = (draw.name() for _ in range(3))
    people = [first, second, third]
    if topic.relation.values:
        value = next(draw.values(topic.relation))
        values = draw.values(topic.relation, topic.asking, topic.asking.part(value))
        told = [topic.say(first, value), *(topic.say(person, next(values)) for person in people[1:])]
    else:
        value, values = second, draw.values(topic.relation)
        told = [topic.say(first, second), topic.say(second, third)]
    linked = [say(link, first, third), say(link, third, second)]

    def others() -> Iterator[list[Sentence]]:
        before = first
        for value in values:
            person = draw.name()
            yield [topic.say(person, value)]
            yield [say(link, person, before)]
            before = person

    return Story(
        asks=topic.ask(draw, first, value),
        tags=topic.tags(draw),
        blocks=[[sentence] for sentence in (*told, *linked)],
        evidence=[told[0]],
        twin={told[0]: None},
        others=others(),
    )


@english("long_context", length=1000)
def long_context(draw: Draw) -> Story:
    """Two people who have one thing in common, or one who has two, told far apart: near start and end."""
    relation = draw.pick(words().shared)
    topic = _topic(draw, relation, draw.pick(("standard", "manipulated")))
    first, second, third = (draw.name() for _ in range(3))
    common, here, there, *rest = draw.some(relation.values, len(relation.values))
    if draw.inverse:
        who = f"{relation.asking.who.format(value=common)} and {relation.asking.who.format(value=here)}"
        asks = Question(f"Who {who}?", f"The person who {who} is named", first)
        needed = [topic.say(first, common), topic.say(first, here)]
        # Somebody else has either, but nobody both.
        decoys = [topic.say(second, common), topic.say(third, here), topic.say(second, there)]
        spare = rest
    else:
        both = f"{first} and {second}"
        says = f"{both} both {relation.both.partition(' {value}')[0]}"
        asks = Question(relation.asking.question.format(name=both), says, common)
        needed = [topic.say(first, common), topic.say(second, common)]
        decoys = [topic.say(first, here), topic.say(second, there)]
        spare = [common, here, there, *rest]
    needed = draw.some(needed, 2)

    def others() -> Iterator[list[Sentence]]:
        while True:
            person = draw.name()
            for value in draw.some(spare, 2):
                yield [topic.say(person, value)]

    return Story(
        asks=asks,
        tags=topic.tags(draw),
        blocks=[[sentence] for sentence in (*needed, *decoys)],
        evidence=needed,
        twin={draw.pick(needed): None},
        others=others(),
        places={needed[0]: 0.1 * draw.rng.random(), needed[1]: 1 - 0.1 * draw.rng.random()},
    )


@english("coreference")
def coreference(draw: Draw) -> Story:
    """Pronouns: a woman and a man, and what she or he does; in the twin the pronoun is another."""
    topic = draw_topic(draw, links=False)
    topic = Topic(topic.relation, topic.asking, 0, "part" if topic.difficulty == "part" else "standard")
    value = next(draw.values(topic.relation))
    relations = [topic.relation, *_besides(draw, topic, 3)]
    values = {relation: draw.values(relation) for relation in relations[1:]}
    values[topic.relation] = draw.values(topic.relation, topic.asking, topic.asking.part(value))

    def pair() -> tuple[dict[str, str], Sentence]:
        people = {pronoun: name for name, pronoun in (draw.person(), draw.person())}
        return people, Sentence(draw.pick(words().meetings).format(**people))

    def does(pronoun: str, relation: Relation, value: str) -> Sentence:
        return Sentence(f"{capital(pronoun)} {relation.asking.who.format(value=value)}.")

    people, meeting = pair()
    asked, other = draw.some(("she", "he"), 2)
    fact = does(asked, topic.relation, value)
    aside = does(other, relations[1], next(values[relations[1]]))
    exchanged = does("one of them" if draw.inverse else other, topic.relation, value)

    def others() -> Iterator[list[Sentence]]:
        while True:
            _, met = pair()
            chosen = zip(draw.some(("she", "he"), 2), draw.some(relations, 2), strict=True)
            yield [met, *(does(pronoun, relation, next(values[relation])) for pronoun, relation in chosen)]

    perturbed = Topic(topic.relation, topic.asking, 0, "manipulated")
    return Story(
        asks=topic.ask(draw, people[asked], value),
        tags=(perturbed if draw.twin else topic).tags(draw),
        blocks=[[meeting, *draw.some([fact, aside], 2)]],
        evidence=[meeting, fact],
        twin={fact: exchanged},
        others=others(),
    )


@english("hops")
def hops(draw: Draw) -> Story:
    """Chains of people, by turns of one, two and three facts, from end to end of one of them."""
    n_hops = 1 + draw.number // 2 % 3
    topic = draw_topic(draw)
    links = draw.some([link for link in words().links if link != topic.relation], n_hops - 1)
    value = next(draw.values(topic.relation))
    answer = topic.asking.part(value)
    values = draw.values(topic.relation, topic.asking, answer)

    def chain(value: str) -> tuple[list[str], list[Sentence]]:
        people = [draw.name() for _ in range(n_hops)]
        told = [say(link, *pair) for link, pair in zip(links, pairwise(people), strict=True)]
        return people, [*told, topic.say(people[-1], value)]

    people, facts = chain(value)
    decoys = chain(next(values))[1]

    def others() -> Iterator[list[Sentence]]:
        # What is asked of the last one is told of those on the way, too: one hop too few gives a wrong answer.
        for person, value in zip(people[:-1], values, strict=False):
            yield [topic.say(person, value)]
        for value in values:
            for sentence in chain(value)[1]:
                yield [sentence]

    return Story(
        asks=topic.ask(draw, people[0], value, links),
        tags=(*topic.tags(draw), f"{n_hops} {'hop' if n_hops == 1 else 'hops'}"),
        blocks=[[sentence] for sentence in (*facts, *decoys)],
        evidence=facts,
        twin={draw.pick(facts): None},
        others=others(),
    )
