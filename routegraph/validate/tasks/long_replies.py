"""Tasks in plain English whose answers have parts, so that replies are long: a list, a copy, a count, a chain.

Each part is one of the prompt's answers, and the grader that the prompt names gives the share of them; a reply is right
where all parts are. Contexts tell all that is asked for: there are no twins.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from itertools import pairwise

from routegraph.validate.tasks.english import say
from routegraph.validate.tasks.story import Draw, Question, Sentence, Story, english
from routegraph.validate.tasks.vocabulary import Relation, words

#: The first tag of their prompts.
PARTS = "parts"
#: People of a list, sentences of a copy, fewest and most who are counted, links of a chain.
PEOPLE, SENTENCES, COUNTED, LINKS = 6, 4, (3, 6), 5


def _told(draw: Draw, relation: Relation, values: Iterator[str]) -> Iterator[list[Sentence]]:
    """Yield what is told of people nobody asks for."""
    for value in values:
        yield [say(relation, draw.name(), value)]


@english("each_person", twins=False)
def each_person(draw: Draw) -> Story:
    """List what the text says of each of six people; the share of the people with the right value."""
    relation = draw.pick(words().relations)
    people = [draw.name() for _ in range(PEOPLE)]
    values = draw.values(relation)
    told = {name: next(values) for name in people}
    facts = [say(relation, name, value) for name, value in told.items()]
    asks = relation.asking.question.format(name="each of these people")
    how = f"Write {PEOPLE} lines, one for each of them: the name, a colon, and what the text says."
    return Story(
        asks=Question(
            f"{asks} {', '.join(people)}. {how}", f"{people[0]}:", f"{people[0]}: {told[people[0]]}"
        ),
        tags=(PARTS, relation.asking.type),
        blocks=[[fact] for fact in facts],
        evidence=facts,
        twin={},
        others=_told(draw, relation, values),
        parts=tuple(f"{name}: {value}" for name, value in told.items()),
        grader="pairs",
    )


@english("copy_paragraph", twins=False)
def copy_paragraph(draw: Draw) -> Story:
    """Copy one of several paragraphs; the share of its four sentences that are right letter by letter."""
    relations = draw.some(words().relations, SENTENCES)
    values = {relation: draw.values(relation) for relation in relations}

    def paragraph(name: str) -> list[Sentence]:
        return [say(relation, name, next(values[relation])) for relation in draw.some(relations, SENTENCES)]

    name = draw.name()
    asked = paragraph(name)
    return Story(
        asks=Question(f"Copy the paragraph about {name}, word for word.", "", asked[0].text),
        tags=(PARTS, "copy"),
        blocks=[asked, paragraph(draw.name())],
        evidence=asked,
        twin={},
        others=(paragraph(draw.name()) for _ in itertools.count()),
        parts=tuple(sentence.text for sentence in asked),
        grader="all_of",
    )


@english("count_people", twins=False)
def count_people(draw: Draw) -> Story:
    """Name all of whom one thing is told, and count them; the share of names and count that are right."""
    relation = draw.pick(words().relations)
    low, high = COUNTED
    people = [draw.name() for _ in range(int(draw.rng.integers(low, high + 1)))]
    value = next(draw.values(relation))
    facts = [say(relation, name, value) for name in people]
    rest = draw.values(relation, relation.asking, relation.asking.part(value))
    who = relation.asking.who.format(value=value)
    how = 'Name them all, each with a number, and end with "Total:" and how many they are.'
    return Story(
        asks=Question(f"Who {who}? {how}", "1.", people[0]),
        tags=(PARTS, "person"),
        blocks=[[fact] for fact in facts],
        evidence=facts,
        twin={},
        others=_told(draw, relation, rest),
        parts=(*people, f"Total: {len(people)}"),
        grader="all_of",
    )


@english("written_hops", twins=False)
def written_hops(draw: Draw) -> Story:
    """Write out a chain of five links from person to person; the share of the links that are right."""
    link = draw.pick(words().links)
    people = [draw.name() for _ in range(LINKS + 1)]
    facts = [say(link, *pair) for pair in pairwise(people)]

    def others() -> Iterator[list[Sentence]]:
        while True:
            chain = [draw.name() for _ in range(3)]
            for pair in pairwise(chain):
                yield [say(link, *pair)]

    how = f'Write out all {LINKS} steps, each as "The {link.name} of ... is ...".'
    asks = f"Who is the {link.name} of {people[0]}, who is the {link.name} of that person, and so on? {how}"
    return Story(
        asks=Question(asks, f"The {link.name} of {people[0]} is", people[1]),
        tags=(PARTS, "person"),
        blocks=[[fact] for fact in facts],
        evidence=facts,
        twin={},
        others=others(),
        parts=(people[1], *(f"of {one} is {two}" for one, two in pairwise(people[1:]))),
        grader="all_of",
    )
