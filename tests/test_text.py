"""Text from elsewhere, made fit to be shown."""

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from routegraph.text import drawn, hypertext, one_line, visible, written

#: All characters there are, those that steer more often; halves of pairs as well.
UGLY = st.text(
    st.characters() | st.sampled_from("\x00\x1b\n\r\t\u2028\u202e\ud800\udfff$\\<>&\"'[]_^{}"), max_size=30
)


@given(UGLY)
def test_nothing_steers(text):
    for shown in (visible(text), written(text, "ascii"), hypertext(text), drawn(text)):
        assert not [one for one in shown if unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"}]
        assert not {"\u202e", "\u2066", "\ufeff"} & set(shown)
        shown.encode("utf-8")
    written(text, "ascii").encode("ascii")
    written(text, "cp1252").encode("cp1252")


@given(st.text(st.characters(exclude_categories=("C", "Z")), max_size=30))
def test_letters_stay(text):
    assert visible(text) == written(text) == text


def test_as_python_writes_it():
    assert (
        visible("a\x1b[31m\r\n\t\ud800\u202e\x00é\u200d") == "a\\x1b[31m\\r\\n\\t\\ud800\\u202e\\x00é\u200d"
    )
    assert hypertext("<b>\"'&\x07") == "&lt;b&gt;&quot;&#x27;&amp;\\x07"


@given(UGLY)
@example("$x$")
@example("$\\frac{$")
@example("\\$x\\$$")
def test_a_figure_takes_nothing_for_a_formula(text):
    from matplotlib.cbook import is_math_text

    assert not is_math_text(drawn(text))


def test_a_long_name_lacks_its_middle():
    assert drawn("a" * 5000 + "z") == "a" * 30 + "…" + "a" * 28 + "z"


def test_an_error_in_one_line():
    assert one_line(ValueError("first\nsecond")) == "first"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(ValueError("x" * 300)) == "x" * 200
    assert one_line(ValueError("x" * 300), 120) == "x" * 120
