"""What a reader is judged by: the twins of documents, the rule, and replies side by side."""

from dataclasses import replace

import pytest

from routegraph.validate.models.load import wrap
from routegraph.validate.prompts.prompt import Prompt, bundled_prompts
from routegraph.validate.train.reader.accept import REPLY, Row, accept, answer, is_right, measured, twin
from routegraph.validate.train.reader.form import chat
from tests.helpers.models import tiny_network
from tests.helpers.reading import tokenizer
from tests.helpers.tokenizer import VOCABULARY

ASKED = Prompt("a", "Ada lives in Rome. She sings.", "Where does Ada live?", "Rome", evidence=((0, 18),))


@pytest.mark.parametrize("prompt", bundled_prompts(), ids=lambda prompt: prompt.id)
def test_a_twin_lacks_the_evidence_and_nothing_else(prompt):
    ((start, end),) = prompt.evidence
    other = twin(prompt)
    assert prompt.context[start:end] not in other.context
    assert prompt.answer not in other.context
    assert not other.answerable
    assert other.question == prompt.question
    assert other.id != prompt.id
    left = prompt.context[:start] + prompt.context[end:]
    assert other.context.split() == left.split()
    assert "  " not in other.context
    assert "\n\n\n" not in other.context


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("Rome.", True),
        ("She lives in Rome, Italy. Or in Paris.", True),
        ("Paris. Or Rome.", False),
        ("Romeo", False),
        ("I don't know.", False),
        ("", False),
    ],
)
def test_right_is_what_holds_the_answer_in_its_first_sentence(reply, right):
    assert is_right(ASKED, reply) is right
    assert is_right(twin(ASKED), reply) is (reply == "I don't know.")


def test_goals():
    assert Row("t", 100, 85, 0, 100, 80).reached
    assert not Row("t", 100, 84, 0, 100, 80).reached
    assert not Row("t", 100, 85, 0, 100, 79).reached


def test_replies_side_by_side_are_those_one_by_one():
    import torch

    network = tiny_network("llama", VOCABULARY)
    network.generation_config.eos_token_id = network.generation_config.pad_token_id = 0
    model = wrap(network, tokenizer(), "tiny")
    prompts = [
        ASKED,
        replace(ASKED, context="Rome is far. " * 9, id="b"),
        replace(ASKED, id="c", question="Why?"),
    ]
    single = []
    for prompt in prompts:
        ids = torch.tensor([chat(model.tokenizer, prompt.context, prompt.question)])
        out = network.generate(ids, max_new_tokens=REPLY, do_sample=False)
        single.append(model.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    assert answer(model, prompts) == single
    reading = accept(model, {"mine": [*prompts, twin(ASKED)]})
    assert [(row.answerable, row.twins) for row in reading.rows] == [(3, 1)]
    assert [reply["reply"] for reply in reading.replies][:3] == single


def test_what_is_measured():
    tasks = measured(10)
    assert {name: len(prompts) for name, prompts in tasks.items()} == {
        "bundled": 20,
        "base": 10,
        "multi_presence": 10,
    }
    assert all(sum(prompt.answerable for prompt in prompts) == len(prompts) / 2 for prompts in tasks.values())
