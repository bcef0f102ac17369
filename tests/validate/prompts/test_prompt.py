import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.validate.prompts.prompt import (
    Prompt,
    bundled_prompts,
    parse_prompts,
    prompts_bytes,
    read_prompts,
    write_prompts,
)

CONTEXT = "Ada lives in Paris."


def line(**fields: object) -> str:
    return json.dumps({"id": "a", "context": CONTEXT, **fields}, ensure_ascii=False)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
contexts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)


@st.composite
def prompts(draw: st.DrawFn) -> list[Prompt]:
    listed = []
    for number in range(draw(st.integers(1, 4))):
        context = draw(contexts)
        solid = [place for place, character in enumerate(context) if character.strip()]
        spans = st.lists(st.sampled_from(solid).map(lambda place: (place, place + 1)), max_size=3).map(tuple)
        listed.append(
            Prompt(
                id=f"{number}{draw(words)}",
                context=context,
                question=draw(words),
                answer=draw(words),
                answer_prefix=draw(words),
                evidence=draw(spans),
                answer_spans=draw(spans),
                answerable=draw(st.booleans()),
                task=draw(words),
                tags=tuple(draw(st.lists(words, max_size=2))),
            )
        )
    return listed


@given(listed=prompts())
def test_written_prompts_are_read_back(
    listed: list[Prompt], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("prompts") / "p.jsonl"
    write_prompts(path, listed)
    assert read_prompts(path) == listed


def test_context_is_enough() -> None:
    read = parse_prompts(
        '\n{"context": "one"}\n\n  \n{"context": "two", "other": 1, "evidence": null}\n', "p.jsonl"
    )
    assert read == [Prompt(id="2", context="one"), Prompt(id="5", context="two")]
    assert read[0].answerable
    assert read[0].answer_spans == ()


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(("\ufeff" + line(id=1) + "\r\n" + line(id=2) + "\r\n").encode())
    assert [prompt.id for prompt in read_prompts(path)] == ["1", "2"]


def test_bundled() -> None:
    assert read_prompts("bundled") == bundled_prompts()
    assert prompts_bytes("bundled").decode().count("\n") == len(bundled_prompts())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{line()}\n{{", r"p.jsonl, line 2: no JSON \(Expecting property name.*, column 2\)"),
        ("\n\n[1]", "p.jsonl, line 3: a prompt is a JSON object, got a list"),
        ('{"id": "a"}', "line 1: field 'context' is missing"),
        ('{"context": " \\n"}', "line 1: field 'context' is empty"),
        ('{"context": 3}', "line 1: field 'context' must be a string, got a number"),
        ('{"context": "\\ud800"}', "line 1: field 'context' holds half a surrogate pair"),
        (line(question=["?"]), "field 'question' must be a string, got a list"),
        (line(answerable="no"), "field 'answerable' must be true or false, got a string"),
        (line(id=True), "field 'id' must be a string, got true or false"),
        (line(tags="a"), "field 'tags' must be a list of strings"),
        (line(evidence="0-3"), r"field 'evidence' must be a list of \[start, end\], got a string"),
        (line(answer_spans=[3, 7]), r"a span of 'answer_spans' must be \[start, end\], two integers, got 3"),
        (line(answer_spans=[[True, 7]]), r"two integers, got \[true, 7\]"),
        (
            line(answer_spans=[[0, 20]]),
            r"line 1: span \[0, 20\] of 'answer_spans' is not inside .* has 19 char",
        ),
        (line(evidence=[[-1, 3]]), r"span \[-1, 3\] of 'evidence' is not inside the context"),
        (line(evidence=[[3, 3]]), r"span \[3, 3\] of 'evidence' is not inside the context"),
        (line(evidence=[[3, 4]]), r"span \[3, 4\] of 'evidence' covers no text"),
        (f"{line()}\n\n{line()}", "p.jsonl, line 3: id 'a' stands on line 1, too"),
        ("", "p.jsonl holds no prompts"),
        ("\n \n", "p.jsonl holds no prompts"),
        ("[" * 100_000, "p.jsonl, line 1: "),
    ],
)
def test_bad_lines_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_prompts(text, "p.jsonl")
    assert "\n" not in str(caught.value)


def test_span_may_end_with_the_context() -> None:
    (prompt,) = parse_prompts(line(answer_spans=[[13, 19]]), "p.jsonl")
    assert prompt.context[slice(*prompt.answer_spans[0])] == "Paris."


def test_line_separators_inside_strings_do_not_count() -> None:
    (prompt,) = parse_prompts('{"context": "one\u2028two\u0085three"}', "p.jsonl")
    assert prompt.context == "one\u2028two\u0085three"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no prompts file 'missing.jsonl'; give a file that is there, or 'bundled'"
    ):
        read_prompts("missing.jsonl")
    with pytest.raises(ValueError, match="no prompts file"):
        read_prompts(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"context": "caf\xe9"}')
    with pytest.raises(ValueError, match=r"prompts file 'latin.jsonl' is not UTF-8 text \(byte 16\)"):
        read_prompts(tmp_path / "latin.jsonl")


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_prompts(path, [Prompt(id="a", context="\ud800")])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
