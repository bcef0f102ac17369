"""Stories a reader is taught with: answers unique, evidence right, and what has no answer is not told."""

import re
from collections import Counter

import pytest

from routegraph.validate.tasks.story import UNKNOWN
from routegraph.validate.train.reader.stories import UNANSWERABLE, story
from routegraph.validate.train.reader.words import Subject, fill

STORIES = [story(3, number, held_out=number % 5 == 0) for number in range(300)]


def says(text, answer):
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE) is not None


def test_a_story_depends_on_its_number_alone():
    assert story(3, 17).context == story(3, 17).context
    assert [asked.question for asked in story(3, 17).asked] == [
        asked.question for asked in story(3, 17).asked
    ]
    assert len({story(3, 17).context, story(3, 18).context, story(4, 17).context}) == 3


def test_each_fact_stands_where_it_is_said_to():
    for told in STORIES:
        for fact, (start, end) in told.facts.items():
            sentence = told.context[start:end]
            assert sentence in (fact.sentence(), fact.sentence(again=True))
            assert says(sentence, fact.value)


def test_answers_stand_in_their_evidence():
    for told in STORIES:
        for asked in told.asked:
            if asked.answerable:
                evidence = " ".join(told.context[slice(*told.facts[fact])] for fact in asked.facts)
                # A person may be told of by a pronoun, and named before.
                here = evidence if asked.kind in ("forward", "part", "hop") else told.context
                assert says(here, asked.answer), (asked, evidence)


def test_answers_are_the_only_ones():
    """No other fact says the same of anybody, or something else of the same subject."""
    for told in STORIES:
        cells = Counter((fact.subject.name, fact.relation) for fact in told.facts)
        values = Counter((fact.relation, fact.value) for fact in told.facts)
        assert max([*cells.values(), *values.values()], default=1) == 1
        for asked in told.asked:
            if asked.kind == "inverse part":
                fits = [
                    fact
                    for fact in told.facts
                    for part in fact.relation.parts
                    if fill(part.who, Subject("", "it"), part.of(fact.value)) == asked.question
                ]
                assert fits == list(asked.facts)


def test_what_has_no_answer_is_not_told():
    """No fact of the story makes the question, whichever way it may be asked."""
    for told in STORIES:
        possible = set()
        for fact in told.facts:
            possible |= {fill(ask, fact.subject) for ask in fact.relation.ask}
            possible |= {fill(who, Subject("", "it"), fact.value) for who in fact.relation.who}
        for asked in told.asked:
            if asked.kind in ("forward", "inverse"):
                assert asked.question in possible
            if not asked.answerable:
                assert asked.answer == UNKNOWN
                assert asked.question not in possible


def test_half_of_what_has_no_answer_is_a_near_miss():
    """The subject is in the text, and others have what is asked for."""
    asked = [(told, one) for told in STORIES for one in told.asked if one.kind == "unknown forward"]
    there = [
        any(fact.subject.name in one.question for fact in told.facts)
        or any(name in one.question for name in re.findall(r"[A-Z]\w+ [A-Z]\w+", told.context))
        for told, one in asked
    ]
    assert sum(there) > 0.5 * len(asked)


def test_a_share_of_the_questions_has_no_answer():
    kinds = Counter(asked.kind for told in STORIES for asked in told.asked)
    unknown = sum(n for kind, n in kinds.items() if kind.startswith("unknown"))
    assert abs(unknown / sum(kinds.values()) - UNANSWERABLE) < 0.08
    assert {"forward", "inverse", "part", "inverse part", "hop", "inverse hop", "unknown hop"} <= kinds.keys()


@pytest.mark.parametrize("held_out", [False, True])
def test_what_is_held_out_is_kept_apart(held_out):
    """Of kinds that are held out, relations are whatever they are; else either all or none."""
    for number in range(60):
        for fact in story(5, number, held_out).facts:
            apart = fact.relation.held_out or fact.relation.of in ("planet", "course")
            assert apart == held_out
