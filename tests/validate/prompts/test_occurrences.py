import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.validate.prompts.prompt import Prompt, occurrences


def found(context: str, answer: str, **fields: object) -> list[str]:
    prompt = Prompt("a", context, answer=answer, **fields)  # type: ignore[arg-type]
    return [context[start:end] for start, end in occurrences(prompt)]


@pytest.mark.parametrize(
    ("context", "answer", "expected"),
    [
        ("Ada and Adam, Ada's", "Ada", ["Ada", "Ada"]),
        ("It cost 5.2 or 1,500, then 5.", "5", ["5"]),
        ("x_5 and 50 and 15", "5", []),
        ("Paris, then paris", "Paris", ["Paris"]),  # exact case first
        ("PARIS, then paris", "Paris", ["PARIS", "paris"]),  # any case where it is not there
        ("a plan for us", "A", []),
        ("a plan for us", "US", []),
        ("the US plan", "US", ["US"]),
        ("in New\n  York.", "New York", ["New\n  York"]),
        ("the cafe\u0301 here", "café", ["cafe\u0301"]),
        ("the café here", "cafe\u0301", ["café"]),
        ("the cafe\u0301 here", "cafe", []),
        ("the ｃａｆé and ﬁne", "fine", ["ﬁne"]),
        ("the ﬁne", "f", []),  # half a ligature is no place
        ("STRASSE", "Straße", ["STRASSE"]),
        ("O’Hara’s", "O'Hara", ["O’Hara"]),
        ("1990–1995", "1990-1995", ["1990–1995"]),
        ("渡船于1931年在戈斯波特建造", "戈斯波特", ["戈斯波特"]),
        ("渡船于1931年建造", "1931", ["1931"]),
        ("그는 서울에 산다", "서울", ["서울"]),
        (unicodedata.normalize("NFD", "그는 서울에 산다"), "서울", [unicodedata.normalize("NFD", "서울")]),
        ("ｶﾞｽ ガス", "ガス", ["ｶﾞｽ", "ガス"]),
        ("C++ and C", "C++", ["C++"]),
        ("costs US$5 now", "$5", ["$5"]),
        ("", "a", []),
        ("Ada", "  ", []),
        ("Ada", "", []),
    ],
)
def test_places(context: str, answer: str, expected: list[str]) -> None:
    assert found(context, answer) == expected


def test_each_answer_and_the_chosen_option() -> None:
    assert found("Ada met Ben and Cy", "Ada", answers=("Cy", "Dan")) == ["Ada", "Cy"]
    assert found("B is for Hannah", "B", choices=("Edda", "Hannah")) == ["Hannah"]
    assert found("B is for Hannah", "E", choices=("Edda", "Hannah")) == []


pieces = st.sampled_from(
    ["a", "é", "e\u0301", "ﬁ", "ß", " ", "\n", "渡", "1", ".", "½", "가", "\u1100\u1161", "’", "İ"]
)


@given(st.lists(pieces, max_size=12).map("".join), st.lists(pieces, min_size=1, max_size=3).map("".join))
def test_spans_hold_the_answer_but_for_form_and_case(context: str, answer: str) -> None:
    def plain(text: str) -> str:
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).replace("’", "'").casefold())
        return " ".join(text.split())

    for start, end in occurrences(Prompt("a", context, answer=answer)):
        assert 0 <= start < end <= len(context)
        assert plain(context[start:end]) == plain(answer)


@given(st.lists(pieces, max_size=6).map("".join), st.sampled_from(["Ada", "Café", "戈斯"]))
def test_an_answer_between_blanks_is_found(around: str, answer: str) -> None:
    context = f"{around} {answer} {around}"
    assert answer in found(context, answer)
