"""Tasks whose answers have parts: what is asked follows from the text, and replies are graded part by part."""

import re
from itertools import pairwise

import pytest

from routegraph.validate.prompts.verdict import judge
from routegraph.validate.tasks import load_task
from routegraph.validate.tasks.long_replies import COUNTED, LINKS, PARTS, PEOPLE, SENTENCES

TASKS = ("each_person", "copy_paragraph", "count_people", "written_hops")


@pytest.mark.parametrize("name", TASKS)
def test_every_part_is_told_and_the_whole_answer_is_right(name):
    prompts = load_task(name, 12)
    assert len({prompt.context for prompt in prompts}) == 12
    for prompt in prompts:
        assert prompt.answerable
        assert PARTS in prompt.tags
        assert len(prompt.golds) == len(set(prompt.golds)) >= 4
        told = [prompt.context[start:end] for start, end in prompt.evidence]
        assert len(told) == {"each_person": PEOPLE, "copy_paragraph": SENTENCES, "written_hops": LINKS}.get(
            name, len(prompt.golds) - 1
        )
        whole = judge(prompt, "\n".join(prompt.golds))
        assert whole.right
        half = judge(prompt, "\n".join(prompt.golds[:2]))
        assert not half.right
        assert half.score == pytest.approx(2 / len(prompt.golds))
        assert judge(prompt, "Nothing of it.").score == 0
        assert prompt == load_task(name, 1 + prompts.index(prompt))[-1]


def test_lists_pair_each_person_with_what_is_told_of_them():
    for prompt in load_task("each_person", 6):
        names, values = zip(*(gold.split(": ") for gold in prompt.golds), strict=True)
        for name, value in zip(names, values, strict=True):
            assert name in prompt.question
            assert re.search(rf"{name}[^.]*{re.escape(value)}\.", prompt.context)
        turned = [f"{name}: {value}" for name, value in zip(names, (*values[1:], values[0]), strict=True)]
        assert judge(prompt, "\n".join(turned)).score == 0


def test_copies_are_one_paragraph_of_the_text():
    for prompt in load_task("copy_paragraph", 6):
        assert " ".join(prompt.golds) in prompt.context.split("\n\n")
        assert judge(prompt, " ".join(prompt.golds).replace(".", "!")).score == 0


def test_counts_name_all_of_whom_it_is_told():
    sizes = set()
    for prompt in load_task("count_people", 16):
        *people, total = prompt.golds
        sizes.add(len(people))
        assert total == f"Total: {len(people)}"
        value = re.match(r"Who (.*)\? Name", prompt.question)[1]
        told = re.findall(rf"([A-Z]\w+ [A-Z]\w+) {re.escape(value)}\.", prompt.context)
        if told:  # in the plain wording the subject comes first
            assert sorted(told) == sorted(people)
    assert sizes <= set(range(COUNTED[0], COUNTED[1] + 1))
    assert len(sizes) > 1


def test_chains_go_from_link_to_link():
    for prompt in load_task("written_hops", 6):
        first = re.match(r"Who is the (\w+) of (\w+ \w+),", prompt.question)
        people = [first[2], prompt.answer, *(gold.split(" is ")[1] for gold in prompt.golds[1:])]
        assert len(people) == LINKS + 1
        for one, two in pairwise(people):
            assert f"The {first[1]} of {one} is {two}." in prompt.context
        written = " ".join(f"The {first[1]} of {one} is {two}." for one, two in pairwise(people))
        assert judge(prompt, written).right
        assert not judge(prompt, written.replace(people[3], people[2])).right
