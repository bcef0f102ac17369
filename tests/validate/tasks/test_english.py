"""The English tasks, read back by a naive reader: one answer or none, from all of the evidence and nothing else."""

import json
import re
from collections import Counter
from collections.abc import Callable
from math import gcd
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routegraph.validate.prompts.prompt import Prompt, read_prompts, write_prompts
from routegraph.validate.tasks import load_task, tasks
from routegraph.validate.tasks.story import UNKNOWN
from tests.helpers.commands import run
from tests.helpers.reader import ENGLISH, NAME, WORDS, Fact, answers, read, relations, sentences
from tests.helpers.tokenizer import learnt

TYPES = {"person", "thing", "organization", "creature", "location", "number", "date", "event"}
FACTS = {"long_context": 2, "coreference": 2}  # sentences that an answer follows from; one elsewhere


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Prompt, Prompt, int]:
    """A prompt, its twin without an answer, and the length asked for."""
    number = draw(st.integers(0, 11))
    length = draw(st.one_of(st.integers(150, 400), st.integers(150, 3000)))
    made = load_task(
        draw(st.sampled_from(ENGLISH)),
        2 * number + 2,
        draw(st.integers(0, 10**6)),
        length,
        lead=draw(st.booleans()),
    )
    return made[-2], made[-1], length


def told(prompt: Prompt) -> list[str]:
    return [prompt.context[start:end] for start, end in prompt.evidence]


@settings(deadline=None, max_examples=150)
@given(pairs())
def test_one_answer_or_none(pair: tuple[Prompt, Prompt, int]) -> None:
    prompt, twin, _ = pair
    assert answers(prompt.question, read(prompt.context)) == {prompt.answer}
    assert answers(twin.question, read(twin.context)) == set()
    assert (prompt.answerable, twin.answerable, twin.answer) == (True, False, UNKNOWN)


@settings(deadline=None, max_examples=150)
@given(pairs())
def test_evidence_is_enough_and_all_of_it_is_needed(pair: tuple[Prompt, Prompt, int]) -> None:
    prompt = pair[0]
    evidence = told(prompt)
    hops = [int(tag[0]) for tag in prompt.tags if "hop" in tag]
    assert len(evidence) == (hops or [FACTS.get(prompt.task, 1)])[0]
    assert answers(prompt.question, read(" ".join(evidence))) == {prompt.answer}
    for left_out in range(1, len(evidence) + 1):
        rest = [*evidence[: left_out - 1], *evidence[left_out:]]
        assert not rest or answers(prompt.question, read(" ".join(rest))) == set()


@settings(deadline=None, max_examples=150)
@given(pairs())
def test_spans(pair: tuple[Prompt, Prompt, int]) -> None:
    prompt, twin, _ = pair
    assert set(told(prompt)) <= set(sentences(prompt.context))
    assert set(told(twin)) <= set(sentences(twin.context))
    assert list(prompt.evidence) == sorted(set(prompt.evidence))
    within = [
        found.span()
        for found in re.finditer(rf"\b{re.escape(prompt.answer)}\b", prompt.context)
        if any(start <= found.start() and found.end() <= end for start, end in prompt.evidence)
    ]
    assert list(prompt.answer_spans) == within
    assert within
    assert twin.answer_spans == ()
    assert prompt.answer not in prompt.question + prompt.answer_prefix


@settings(deadline=None, max_examples=150)
@given(pairs())
def test_twin_lacks_one_sentence_that_is_needed(pair: tuple[Prompt, Prompt, int]) -> None:
    prompt, twin, _ = pair
    assert (prompt.question, prompt.answer_prefix) == (twin.question, twin.answer_prefix)
    assert prompt.context.count("\n\n") == twin.context.count("\n\n")
    both = zip(sentences(prompt.context), sentences(twin.context), strict=True)
    ((before, after),) = [pair for pair in both if pair[0] != pair[1]]
    assert before in told(prompt)
    new = after in told(twin)
    assert new == (prompt.task == "coreference")
    assert set(told(twin)) - {after} == set(told(prompt)) - {before}
    if new:
        words = before.split(" ", 1)[1]
        assert after in (
            {f"One of them {words}"} if "inverse" in prompt.tags else {f"She {words}", f"He {words}"}
        )


@settings(deadline=None, max_examples=150)
@given(pairs())
def test_length_within_a_tenth(pair: tuple[Prompt, Prompt, int]) -> None:
    for prompt in pair[:2]:
        assert abs(1.3 * len(prompt.context.split()) - pair[2]) <= 0.1 * pair[2]


@settings(deadline=None, max_examples=100)
@given(pairs())
def test_prefix_goes_on_with_the_answer(pair: tuple[Prompt, Prompt, int]) -> None:
    prompt = pair[0]
    if prompt.answer_prefix == "Answer:":
        assert prompt.question.endswith(f'? If the text does not tell, say "{UNKNOWN}".')
        return
    whole = f"{prompt.answer_prefix.removeprefix('Answer: ')} {prompt.answer}"
    if "inverse" in prompt.tags:
        assert whole == f"The person who {prompt.question[4:-1]} is named {prompt.answer}"
    elif prompt.tags[2] != "part" and prompt.task not in ("long_context", "hops"):
        (fact,) = read(whole + ".")
        assert {fact.value} == answers(prompt.question, {fact}) == {prompt.answer}


@pytest.mark.parametrize("name", ENGLISH)
def test_tags(name: str) -> None:
    prompts = load_task(name, 400, seed=5)
    for place in range(0, 400, 4):
        assert [prompt.tags[0] for prompt in prompts[place : place + 4]] == ["forward"] * 2 + ["inverse"] * 2
    types = Counter(prompt.tags[1] for prompt in prompts if "forward" in prompt.tags)
    expected = {
        "long_context": {"thing", "organization", "location", "creature"},
        "coreference": TYPES - {"person"},
    }
    assert set(types) == expected.get(name, TYPES)
    assert {prompt.tags[1] for prompt in prompts if "inverse" in prompt.tags} == {"person"}
    difficulties = {"standard", "manipulated"} | ({"part"} if name != "long_context" else set())
    assert {prompt.tags[2] for prompt in prompts} == difficulties
    if name == "hops":
        hops = Counter((prompt.tags[0], prompt.tags[3]) for prompt in prompts[:60])
        assert set(hops.values()) == {10}


def test_difficulties_say_how_a_fact_is_worded() -> None:
    for prompt in load_task("base", 300, seed=9, twins=False):
        ((name, relation, value),) = read(told(prompt)[0])
        says = relations()[relation].get("says", "{name} " + relations()[relation]["who"])
        plain = says.format(name=name, value=value).casefold() + "."
        assert (told(prompt)[0].casefold() == plain) == (prompt.tags[2] != "manipulated")
        if "forward" in prompt.tags:
            assert (prompt.answer == value) == (prompt.tags[2] != "part")


def test_first_prompts_do_not_depend_on_the_number(tmp_path: Path) -> None:
    for name in ENGLISH:
        write_prompts(tmp_path / "a", load_task(name, 9, seed=3))
        write_prompts(tmp_path / "b", load_task(name, 14, seed=3))
        assert (tmp_path / "b").read_bytes().startswith((tmp_path / "a").read_bytes())
        ids = [prompt.id for prompt in read_prompts(tmp_path / "b")]
        assert len(set(ids)) == 14
        assert load_task(name, 9, seed=4)[0].context != load_task(name, 9, seed=3)[0].context


@pytest.mark.parametrize("name", ENGLISH)
def test_files_work_where_tasks_do(name: str, tmp_path: Path) -> None:
    prompts, path = load_task(name, 12, seed=1), tmp_path / "own.jsonl"
    write_prompts(path, prompts)
    assert load_task(path) == prompts
    assert load_task(path, 5) == prompts[:5]
    assert json.loads(path.read_text("utf-8").splitlines()[0])["task"] == name


def test_twins_can_be_left_out() -> None:
    for name in ENGLISH:
        assert all(prompt.answerable for prompt in load_task(name, 6, twins=False))
        assert [p.context for p in load_task(name, 3, twins=False)] == [
            p.context for p in load_task(name, 6)[::2]
        ]


def test_needed_facts_of_long_context_are_far_apart() -> None:
    for length in (300, 1000, 4000):
        for prompt in load_task("long_context", 30, seed=2, length=length, twins=False):
            (_, before), (after, _) = prompt.evidence
            assert after - before > 0.5 * len(prompt.context)


def test_pronouns_stand_for_those_before_them() -> None:
    for prompt in load_task("coreference", 40, seed=2):
        (met, does) = told(prompt)
        name = prompt.answer if "inverse" in prompt.tags else prompt.answer_prefix.split(" ")[1]
        assert name.split()[0] in met or not prompt.answerable
        assert re.match(r"(She|He|One of them) ", does)
        assert f"{met} " in prompt.context  # the same paragraph goes on


def test_the_entity_of_multi_presence_is_in_every_sentence() -> None:
    for prompt in load_task("multi_presence", 20, seed=2):
        (name,) = {fact.subject for fact in read(prompt.context)}
        assert all(name in sentence for sentence in sentences(prompt.context))


@pytest.mark.parametrize("name", ENGLISH)
def test_whom_an_inverse_question_means_is_not_told_by_names_alone(name: str) -> None:
    for prompt in load_task(name, 20, seed=4):
        assert len(set(re.findall(NAME, prompt.context))) > 2


def test_hops_have_decoys() -> None:
    """The same chain of relations leads elsewhere, too, so that a relation alone gives no answer."""
    for prompt in load_task("hops", 36, seed=8, twins=False):
        facts = read(prompt.context)
        for fact in read(" ".join(told(prompt))):
            assert {other.relation for other in facts if other.subject != fact.subject} >= {fact.relation}
            assert Counter(other.relation for other in facts)[fact.relation] >= 2


@pytest.mark.parametrize("name", ENGLISH)
def test_very_long_contexts(name: str) -> None:
    prompt, twin = load_task(name, 2, seed=6, length=32000)
    assert abs(1.3 * len(prompt.context.split()) - 32000) <= 3200
    facts = read(prompt.context)
    assert answers(prompt.question, facts) == {prompt.answer}
    assert answers(twin.question, read(twin.context)) == set()
    # Nobody is told to have two cities: names do not come twice.
    single = Counter(
        (fact.subject, fact.relation) for fact in facts if "both" not in relations()[fact.relation]
    )
    assert set(single.values()) <= {1}


@pytest.fixture(scope="module")
def count() -> Callable[[str], int]:
    """Return how many subwords a text has, learnt from other prompts of these tasks."""
    tokenizer = learnt([prompt.context for name in ENGLISH for prompt in load_task(name, 24)], 4000)
    return lambda text: len(tokenizer(text).input_ids)


@pytest.mark.parametrize("length", [150, 300, 1200])
def test_length_in_a_models_tokens(count: Callable[[str], int], length: int) -> None:
    for name in ENGLISH:
        for prompt in load_task(name, 12, seed=1, length=length, count=count):
            assert abs(count(prompt.context) - length) <= 0.1 * length, (name, prompt.id)


def test_reader_sees_two_answers_where_there_are_two() -> None:
    """The reader itself: what makes a question ambiguous, or answers it elsewhere, is not overlooked."""
    prompt = load_task("hops", 3, seed=1, twins=False)[2]
    assert (prompt.tags[0], prompt.tags[3]) == ("forward", "2 hops")
    facts = read(prompt.context)
    (value,) = answers(prompt.question, facts)
    used = read(" ".join(told(prompt)))
    last = next(fact for fact in used if fact.relation not in WORDS["links"]["nouns"])
    other = next(fact.value for fact in facts if fact.relation == last.relation and fact.value != last.value)
    assert answers(prompt.question, facts | {Fact(last.subject, last.relation, other)}) == {value, other}
    assert answers(prompt.question, facts - {last}) == set()


def test_names_do_not_run_in_step() -> None:
    first = len(WORDS["people"]["she"])
    assert len(WORDS["people"]["he"]) == first
    assert gcd(2 * first, len(WORDS["people"]["surnames"])) == 1


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        (
            "bas",
            {},
            "unknown task 'bas'; choose from: base, copy_paragraph, coreference, .*bundled, or give a file of prompts",
        ),
        ("nosuch.csv", {}, "no prompts file 'nosuch.csv'"),
        ("base", {"n": 0}, "n must be at least 1, got 0"),
        ("base", {"seed": -1}, "seed must not be negative, got -1"),
        ("base", {"length": 20}, "length 20 is too short: the facts of base-0-00000 alone take"),
        ("base", {"length": 0}, "length must be at least 1, got 0"),
        ("base", {"twin": True}, "takes no parameter 'twin'; choose from: seed, length"),
        ("bundled", {"length": 300}, "it takes no length"),
    ],
)
def test_bad_arguments(name: str, arguments: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_task(name, **arguments)


def test_every_english_task_is_registered() -> None:
    assert set(ENGLISH) <= set(tasks)
    assert all(tasks.summary(name) for name in ENGLISH)


def test_command_writes_what_load_task_gives(capsys, tmp_path: Path) -> None:
    out = tmp_path / "hops.jsonl"
    status, printed, err = run(
        capsys,
        "task",
        "hops",
        "--n",
        "7",
        "--length",
        "200",
        "--seed",
        "3",
        "--set",
        "lead=False",
        "--out",
        out,
    )
    assert (status, printed) == (0, "")
    assert "7 prompts" in err
    assert read_prompts(out) == load_task("hops", 7, 3, 200, lead=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], ["unknown task 'nope'", "base"]),
        (["base", "--n", "0"], ["n must be at least 1"]),
        (["base", "--length", "10"], ["length 10 is too short"]),
        (["base", "--set", "twins=1"], ["twins", "True or False"]),
        (["base", "--set", "seed=1"], ["--set takes no seed"]),
        (["base", "--tokens-of", "gpt5"], ["gpt5", "smollm2"]),
    ],
)
def test_command_writes_nothing_on_bad_input(capsys, tmp_path: Path, arguments, words) -> None:
    out = tmp_path / "out.jsonl"
    status, printed, err = run(capsys, "task", *arguments, "--out", out)
    assert (status, printed) == (2, "")
    assert len(err.splitlines()) == 1
    assert all(word in err for word in words)
    assert list(tmp_path.iterdir()) == []
