import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.validate.prompts.formats.values import golds

words = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=10)
    .map(str.strip)
    .filter(bool)
)
lists = st.lists(words, min_size=1, max_size=4, unique=True)


@given(lists)
def test_lists_as_python_json_and_numpy_show_them(listed: list[str]) -> None:
    array = np.array(listed, dtype=object)
    for shown in (
        repr(listed),
        repr(tuple(listed)),
        json.dumps(listed),
        str(array),
        repr(array),
        listed,
        array,
    ):
        assert golds(shown) == listed


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("['a' 'b']", ["a", "b"]),  # Python would read 'ab'
        ("array(['a', 'b'], dtype=object)", ["a", "b"]),
        ("np.array(['a'])", ["a"]),
        ("[np.str_('a'), np.str_('b')]", ["a", "b"]),
        ("['it\\'s', \"b\"]", ["it's", "b"]),
        ("[1931, 2.5]", ["1931", "2.5"]),
        ("{'text': array(['a'], dtype=object), 'answer_start': array([5])}", ["a"]),
        ({"text": ["a", "a", " b "], "answer_start": [1, 1, 2]}, ["a", "b"]),
        ({"value": "a", "aliases": ["b"]}, ["a", "b"]),
        ("[sic]", ["[sic]"]),
        ("(1995)", ["(1995)"]),
        ("('a', 'b')", ["a", "b"]),
        ("__import__('os').getcwd()", ["__import__('os').getcwd()"]),
        ("[__import__('os').getcwd()]", ["[__import__('os').getcwd()]"]),
        ("['a", ["['a"]),
        ("[" * 5000 + "]" * 5000, []),
        (7, ["7"]),
        (7.0, ["7"]),
        (np.float64(2.5), ["2.5"]),
        (float("nan"), []),
        (None, []),
        ("  ", []),
        ([None, "", "a"], ["a"]),
    ],
)
def test_answers(value: object, expected: list[str]) -> None:
    assert golds(value) == expected


def test_an_object_without_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="its answer is an object of 'spans', and no 'text'"):
        golds({"spans": []})
