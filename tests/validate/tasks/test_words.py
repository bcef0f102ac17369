"""The word-level language against a naive reader of its text, and its arrays against its tokenizer."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from routegraph.validate.prompts.tokens import tokenise
from routegraph.validate.tasks import load_task, words
from routegraph.validate.tasks.lexicon import (
    ATTRIBUTES,
    IDK,
    LINKS,
    NAMES,
    QUESTION,
    SPECIAL,
    STOP,
    VOCABULARY,
    word_tokenizer,
)
from routegraph.validate.tasks.worlds import KINDS, NONE, Shape

tasks = st.sampled_from(sorted(words.TASKS))
seeds = st.integers(0, 2**32)


def read_facts(context: str) -> list[tuple[str, ...]]:
    """Return the (entity, relation, value) of every sentence that is a fact."""
    sentences = [tuple(sentence.split()) for sentence in context.split(".")]
    return [s for s in sentences if len(s) == 3 and s[1] in (*ATTRIBUTES, *LINKS)]


def chains(facts: list[tuple[str, ...]], question: str) -> list[tuple[str, list[str]]]:
    """Return every answer to a question with the sentences it takes, by looking through all facts."""
    asked = question.split()
    if asked[0] == "who":
        return [(e, [f"{e} {r} {v} ."]) for e, r, v in facts if (r, v) == tuple(asked[1:])]
    found = [(asked[0], list[str]())]
    for relation in asked[1:]:
        found = [
            (v, [*way, f"{e} {r} {v} ."])
            for at, way in found
            for e, r, v in facts
            if (e, r) == (at, relation)
        ]
    return found


@st.composite
def shapes(draw) -> Shape:
    attributes, links = draw(st.integers(1, 6)), draw(st.integers(0, 2))
    entities = draw(st.integers(2, 12))
    n_facts = draw(st.integers(1, min(20, entities * (attributes + links))))
    fillers = draw(st.lists(st.integers(2, 7), max_size=6))
    return Shape(n_facts, entities, attributes, links, tuple(fillers))


@given(tasks, seeds)
def test_answers_and_evidence_are_what_a_naive_reader_finds(task, seed):
    for prompt in words.prompts(task, 3, seed):
        found = chains(read_facts(prompt.context), prompt.question)
        assert prompt.answerable == (not task.startswith("unknown"))
        if not prompt.answerable:
            assert found == []
            assert (prompt.answer, prompt.evidence, prompt.answer_spans) == ("<idk>", (), ())
            continue
        sentences = [prompt.context[start:end] for start, end in prompt.evidence]
        assert found == [(prompt.answer, sentences)]
        ((start, end),) = prompt.answer_spans
        assert prompt.context[start:end] == prompt.answer
        assert prompt.evidence[-1][0] <= start < end <= prompt.evidence[-1][1]
        # Each fact is needed: without its sentence there is no answer.
        for sentence in sentences:
            assert chains(read_facts(prompt.context.replace(sentence, "")), prompt.question) == []


@given(shapes(), st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=12), seeds)
@example(Shape(1, 2, 1, 0, ()), ["unknown_forward"] * 2, 0)
def test_all_questions_of_a_batch_have_their_answers(shape, kinds, seed):
    batch = words.draw_batch(np.random.default_rng(seed), 3, shape, kinds)
    assert batch.n_context == shape.n_context
    assert [VOCABULARY[token] for token in batch.tokens[0, batch.columns]] == ["Answer:"] * len(kinds)
    for row, answers, bridges in zip(batch.tokens, batch.answer, batch.bridge, strict=True):
        text = [VOCABULARY[token] for token in row]
        facts = read_facts(" ".join(text[1 : batch.n_context]))
        assert len(facts) == shape.n_facts
        starts = np.flatnonzero(row == QUESTION)
        for kind, start, end, answer, bridge in zip(
            kinds, starts, batch.columns, answers, bridges, strict=True
        ):
            if answer == NONE:
                assert bridge == NONE
                continue
            asked = text[start + 1 : end]
            expected = [VOCABULARY[answer]] if answer != IDK else []
            assert [found for found, _ in chains(facts, " ".join(asked))] == expected
            assert (answer == IDK) == kind.startswith("unknown")
            assert (bridge == NONE) == ("_hop" not in kind)
            if bridge != NONE:
                first = [found for found, _ in chains(facts, " ".join(asked[:2]))]
                assert first == ([VOCABULARY[bridge]] if bridge != IDK else [])


@given(tasks, seeds)
@settings(max_examples=20)
def test_prompts_are_the_token_arrays_to_the_tokenizer(task, seed):
    model = SimpleNamespace(tokenizer=word_tokenizer())
    prompts = iter(words.prompts(task, 20, seed))
    for batch in words.draw_batches(task, 20, seed):
        for row in range(len(batch.tokens)):
            prompt = next(prompts)
            asked = tokenise(model, prompt)
            np.testing.assert_array_equal(np.concatenate([asked.context, asked.question]), batch.tokens[row])
            assert asked.answer.tolist() == [batch.answer[row, 0]]
            assert [prompt.context[a:b] for a, b in asked.offsets[1:]] == prompt.context.split()
    assert next(prompts, None) is None


def test_a_longer_list_begins_with_the_shorter_one():
    for task in words.TASKS:
        assert words.prompts(task, 30, 5)[:7] == words.prompts(task, 7, 5)
        assert words.prompts(task, 7, 6) != words.prompts(task, 7, 5)


def test_contexts_have_the_length_they_are_said_to_have():
    lengths = [len(p.context.split()) for task in words.TASKS for p in words.prompts(task, 200, 0)]
    assert 40 <= min(lengths) < 50
    assert 90 < max(lengths) <= 96


def test_repeated_mention_asks_about_the_one_mentioned_most():
    for prompt in words.prompts("repeated_mention", 100, 0):
        names = [entity for entity, _, _ in read_facts(prompt.context)]
        mentions = names.count(prompt.question.split()[0])
        assert mentions == max(map(names.count, names))
        assert mentions >= 4


def test_the_vocabulary_has_no_word_twice_and_reads_unknown_ones():
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert not any(set(NAMES) & set(values) for values in ATTRIBUTES.values())
    tokenizer = word_tokenizer()
    assert tokenizer.is_fast
    assert tokenizer("Alice  color\nmauve .")["input_ids"] == [
        1,
        VOCABULARY.index("Alice"),
        VOCABULARY.index("color"),
        SPECIAL.index("<unk>"),
        STOP,
    ]
    assert tokenizer.decode([VOCABULARY.index("<idk>"), 1], skip_special_tokens=True) == "<idk>"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: words.prompts("sideways", 1, 0),
            "unknown word-level task 'sideways'; choose from: forward, ",
        ),
        (lambda: words.prompts("forward", 0, 0), "the number of prompts must be at least 1, got 0"),
        (lambda: words.prompts("forward", 1, 0, 73), "length must be at least 74 words"),
        (lambda: Shape(9, 4, 1, 1), "n_facts must be in 1..8, entities times relations, got 9"),
        (lambda: Shape(1, 4, 1, 3), "n_attributes must be in 1..6 and n_links in 0..2, got 1 and 3"),
        (lambda: Shape(1, 1, 1, 1), "n_entities must be in 2.."),
        (lambda: Shape(1, 4, 1, 1, (1,)), "a filler has at least one word and a full stop"),
        (
            lambda: words.draw_batch(np.random.default_rng(0), 1, Shape(1, 4, 1, 1), ["why"]),
            "unknown kind of question 'why'; choose from: forward, ",
        ),
    ],
)
def test_bad_input_is_one_sentence(make, says):
    with pytest.raises(ValueError) as caught:
        make()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_tasks_go_by_name():
    for name in words.TASKS:
        assert load_task(f"words_{name}", 5, seed=3) == words.prompts(name, 5, 3)
        assert load_task(f"words_{name}", 2, seed=3) == words.prompts(name, 5, 3)[:2]


@pytest.mark.parametrize("length", [80, 301])
def test_a_length_is_kept_to_and_adds_no_facts(length):
    for name in words.TASKS:
        for prompt in load_task(f"words_{name}", 5, seed=3, length=length):
            assert len(prompt.context.split()) == length
            assert len(read_facts(prompt.context)) <= words.TASKS[name].n_facts[1]
