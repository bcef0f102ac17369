"""Which wrong replies are hallucinations, by what the tasks know."""

import pytest

from routegraph.validate.prompts.prompt import bundled_prompts
from routegraph.validate.tasks import load_task, long_replies, tasks
from routegraph.validate.tasks.knowledge import hallucinates, known


def about(task, tags, question, answer, answerable=True):
    return {"task": task, "tags": tags, "question": question, "answer": answer, "answerable": answerable}


CITY = about("documents", ["person-city"], "In which city does Ada Barlow live?", "Oslo")
YEAR = about("documents", ["place-year"], "In which year was the Old Observatory founded?", "1805")
OWNER = about("documents", ["object-owner"], "Who is the owner of the red kayak?", "Ada Barlow")
MONTH = about("base", ["forward", "date"], "In which month was Ada Colby born?", "May")
PERSON = about("hops", ["inverse", "person"], "Who has a barber called Felix Walcott?", "Ada Colby")
LINK = about("base", ["forward", "person"], "Who is the cook of Ada Colby?", "Nils Thorne")
WORD = about("forward", ["words"], "Alice color", "red")
WHO = about("inverse", ["words"], "who color red", "Alice")
TOWN = about("forward", ["words"], "Alice city", "Paris")
NOBODY = about("unknown_forward", ["words"], "Alice color", "<idk>", False)
UNTOLD = about("base", ["forward", "location"], "In which city does Ada Colby live?", "I don't know", False)


@pytest.mark.parametrize(
    ("prompt", "reply", "expected"),
    [
        (CITY, "Lisbon.", True),
        (CITY, "She lives in Lisbon.", True),
        (CITY, "not in Lisbon", False),
        (CITY, "a large town. Then Lisbon", False),
        (CITY, "", False),
        (CITY, "a baker", False),
        (YEAR, "1804.", True),
        (YEAR, "12", True),
        (YEAR, "stone", False),
        (OWNER, "Hugo Palmer", True),
        (OWNER, "Ada Palmer", True),
        (OWNER, "the red kayak", False),
        (MONTH, "June", True),
        (MONTH, "in the spring", False),
        (PERSON, "Felix Walcott", False),
        (PERSON, "Emil", True),
        (LINK, "Ada", False),
        (LINK, "Karl Fenwick", True),
        (WORD, "blue .", True),
        (WORD, "pizza .", False),
        (WHO, "Bob", True),
        (WHO, "blue", False),
        (TOWN, "Bob", False),
        (CITY, "London", True),
        (CITY, "Ada", False),
        (OWNER, "Elena", True),
        (NOBODY, "red", True),
        (UNTOLD, "Oslo", True),
        (UNTOLD, "by the river", False),
    ],
)
def test_what_is_one(prompt, reply, expected):
    assert hallucinates(prompt, reply) is expected


def test_of_users_prompts_nothing_is_known():
    assert hallucinates(about("mine", [], "What is it?", "a cat"), "a dog") is None
    assert hallucinates(about("prompts", ["x"], "", ""), "a dog") is None


@pytest.mark.parametrize("name", ["bundled", *sorted(tasks)])
def test_every_prompt_of_ours_is_known(name):
    if name != "bundled" and tasks.origin(name) != "routegraph":
        pytest.skip("registered by another test")
    prompts = bundled_prompts() if name == "bundled" else load_task(name, 24)
    for prompt in prompts:
        told = about(prompt.task, prompt.tags, prompt.question, prompt.answer, prompt.answerable)
        found = known(told)
        if long_replies.PARTS in prompt.tags:  # of several values none is the wrong one
            assert found is None
            continue
        assert found is not None, prompt.question
        if prompt.answerable and not found.people:
            assert prompt.answer in found.values
        assert hallucinates(told, prompt.answer) is False
