"""The documents task: grammatical, unambiguous, and the bundled file its exact output."""

import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from routegraph.validate.models.load import Loaded
from routegraph.validate.prompts.prompt import Prompt, bundled_prompts, prompts_bytes
from routegraph.validate.tasks.documents import PLACES, generate, kinds

SEEDS = range(12)


@pytest.fixture(scope="module")
def many() -> list[Prompt]:
    return [prompt for seed in SEEDS for prompt in generate(48, seed)]


def test_bundled_file_is_what_the_generator_writes(tmp_path: Path) -> None:
    module, path = "routegraph.validate.tasks.documents", tmp_path / "prompts.jsonl"
    subprocess.run([sys.executable, "-m", module, str(path)], check=True)
    assert path.read_bytes() == prompts_bytes("bundled")
    assert bundled_prompts() == generate()
    assert len(bundled_prompts()) >= 48


def test_lengths_fit_every_chunk(smollm2: Loaded) -> None:
    lengths = np.array([len(smollm2.tokenizer(prompt.context).input_ids) for prompt in bundled_prompts()])
    assert lengths.min() > 128
    assert lengths.max() <= 320
    assert not np.isin(lengths % 64, [1, 2, 3, 4]).any()
    assert len(np.unique(lengths)) > 24


def test_first_prompts_do_not_depend_on_the_number() -> None:
    assert generate(5, seed=3) == generate(9, seed=3)[:5]
    assert generate(5, seed=3) != generate(5, seed=4)


def test_kinds_and_places_take_turns() -> None:
    tags = Counter((prompt.tags[0], prompt.tags[1]) for prompt in generate(48))
    assert len(kinds()) == 8
    assert tags == {(kind.name, place): 2 for kind in kinds() for place in PLACES}


def test_answer_stands_once_in_its_sentence(many: list[Prompt]) -> None:
    for prompt in many:
        ((start, end),) = prompt.answer_spans
        assert prompt.context[start:end] == prompt.answer
        assert prompt.context.casefold().count(prompt.answer.casefold()) == 1, prompt
        ((first, last),) = prompt.evidence
        assert first <= start < end <= last
        sentence = prompt.context[first:last]
        assert sentence.endswith(".")
        assert sentence.count(". ") == 0
        assert prompt.context[:first] == "" or prompt.context[first - 1] in " \n"
        assert prompt.context[last : last + 1] in ("", " ", "\n")
        assert prompt.answer.casefold() not in prompt.question.casefold() + prompt.answer_prefix.casefold()
        assert prompt.answerable
        assert prompt.task == "documents"


def test_place_of_the_answer(many: list[Prompt]) -> None:
    for prompt in many:
        paragraphs = prompt.context.split("\n\n")[1:-1]
        (where,) = [number for number, paragraph in enumerate(paragraphs) if prompt.answer in paragraph]
        last = len(paragraphs) - 1
        assert {"early": where == 0, "middle": 0 < where < last, "late": where == last}[prompt.tags[1]]
        assert prompt.tags[2] == f"{len(paragraphs)} subjects"


def test_subject_of_the_question_is_named_with_the_answer(many: list[Prompt]) -> None:
    by_name = {kind.name: kind for kind in kinds()}
    for prompt in many:
        kind = by_name[prompt.tags[0]]
        pattern = re.escape(kind.question).replace(re.escape("{name}"), "(.+)")
        name = re.fullmatch(pattern, prompt.question).group(1)  # type: ignore[union-attr]
        sentence = prompt.context[slice(*prompt.evidence[0])]
        assert name.casefold() in sentence.casefold()
        others = [value for value in kind.values if value != prompt.answer]
        assert not any(other in sentence for other in others)
        # Every subject has a value of its own: without distractors there would be nothing to confuse.
        assert sum(prompt.context.count(value) for value in kind.values) == int(prompt.tags[2][0])


def test_sentences_are_well_formed(many: list[Prompt]) -> None:
    for prompt in many:
        assert not re.search(r"[{}]|  |\.\.| \.|,,", prompt.context)
        for paragraph in prompt.context.split("\n\n"):
            sentences = re.split(r"(?<=\.) ", paragraph)
            for sentence in sentences:
                assert re.fullmatch(r"[A-Z].*\.", sentence), sentence
                assert not re.search(r"\ba [aeiou]\w|\ban [^aeiou\W]", sentence), sentence
            for sentence, following in pairwise(sentences):
                assert sentence != following
        # A paragraph names its subject before it says he, she or it.
        for paragraph in prompt.context.split("\n\n")[1:-1]:
            assert not re.match(r"(He|She|It|His|Her|Its) (?!was in)", paragraph), paragraph


def test_no_detail_could_be_mistaken_for_a_statement() -> None:
    for kind in kinds():
        told = " ".join([*kind.details, *kind.openings, *kind.closings, *(name for name, _ in kind.subjects)])
        assert not [value for value in kind.values if value.casefold() in told.casefold()]
        assert not [(a, b) for a in kind.values for b in kind.values if a != b and a in b]
        assert all("{value}" in statement and "{name}" in statement for statement in kind.statements)
        assert "{value}" not in told


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        generate(0)
    with pytest.raises(ValueError, match="seed must not be negative, got -1"):
        generate(1, seed=-1)
