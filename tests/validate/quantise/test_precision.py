"""What a precision's name means."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routegraph.validate.quantise.precision import BITS, CHOICES, LAYOUTS, Precision


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("4", ("", 4, 4, 64, 0)),
        ("k4v2", ("", 4, 2, 64, 0)),
        ("8:group=16", ("", 8, 8, 16, 0)),
        ("kivi2", ("kivi", 2, 2, 32, 128)),
        ("kivik4v2:residual=32", ("kivi", 4, 2, 32, 32)),
        ("kivi3:group=0,residual=0", ("kivi", 3, 3, 0, 0)),
        ("token8", ("token", 8, 8, 0, 0)),
        ("token8:residual=5", ("token", 8, 8, 0, 5)),
        ("svdq", ("svdq", 8, 4, 0, 0)),
        ("svdq:schedule=4-2-0,values=2,group=8,residual=3", ("svdq", 4, 2, 8, 3)),
    ],
)
def test_texts(text, meant):
    one = Precision.named(text)
    assert (one.layout.prefix, one.keys, one.values, one.group, one.residual) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "1",
        "16",
        "04",
        "kivi",
        "kivi5",
        "token4",
        "k4",
        "v4k4",
        "kivi4v2",
        "four",
        "4 ",
        "int8",
        "4k",
        "svdq4",
        "svdqk4v2",
        "svdq,values=4",
    ],
)
def test_what_means_none_is_refused_with_the_choices(text):
    with pytest.raises(ValueError) as caught:
        Precision.named(text)
    assert str(caught.value) == f"unknown bits {text!r}; choose from: {CHOICES}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("4:", "unknown '' in bits '4:'; choose from: group=N, residual=N"),
        ("4:group", "unknown 'group' in bits"),
        ("4:rows=3", "unknown 'rows=3' in bits"),
        ("4:group=-1", "unknown 'group=-1' in bits"),
        ("4:group=1.5", "unknown 'group=1.5' in bits"),
        ("kivi4:group=48", "residual 128 must be a multiple of group 48"),
        ("kivi4:group=0", "residual 128 must be a multiple of group 0"),
        ("svdq:", "unknown '' in bits 'svdq:'; choose from: schedule=B-B-..., values=N, group=N, residual=N"),
        ("svdq:schedule=", "unknown 'schedule=' in bits"),
        ("svdq:schedule=4-", "unknown 'schedule=4-' in bits"),
        ("svdq:schedule=2-4", "schedule 2-4 must not rise"),
        ("svdq:schedule=0-0", "schedule 0-0 must begin with a number of bits"),
        ("svdq:schedule=4-1", "each is 0 .left out., 2, 3, 4, 8 or 16"),
        ("svdq:values=5", "values 5 must be 2, 3, 4 or 8 bits"),
    ],
)
def test_what_does_not_fit_is_named(text, said):
    with pytest.raises(ValueError, match=said):
        Precision.named(text)


def test_numbers_out_of_range():
    layout = LAYOUTS[""]
    with pytest.raises(ValueError, match="5 is none of the choices"):
        Precision(layout, 4, 5, 64, 0)
    with pytest.raises(ValueError, match="must be at least 0"):
        Precision(layout, 4, 4, -1, 0)


@given(
    st.sampled_from(["", "kivi", "token", "svdq"]),
    st.sampled_from(BITS),
    st.sampled_from(BITS),
    st.integers(0, 99),
    st.integers(0, 5),
)
def test_names_and_texts_mean_the_same(prefix, keys, values, group, times):
    layout, schedule = LAYOUTS[prefix], ()
    if prefix == "token":
        keys = values = 8
    if prefix == "svdq":
        schedule = (keys, *(2,) * (times > 1), *(0,) * times)
    one = Precision(layout, keys, values, group, group * times, schedule)
    assert Precision.named(one.name) == Precision.named(one.text) == one
    assert one.text.startswith(one.name.partition(":")[0] + (":schedule=" if schedule else ":group="))


def test_every_choice_is_known_by_its_shortest_name():
    for text in (
        "2",
        "3",
        "4",
        "8",
        "kivi2",
        "kivi3",
        "kivi4",
        "kivi8",
        "token8",
        "k4v2",
        "kivik4v2",
        "svdq",
    ):
        assert Precision.named(text).name == text
        assert text in CHOICES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4", "keys and values of 4 bits, a scale and an offset for 64 channels of a row"),
        ("k4v2:group=0", "keys of 4 bits and values of 2, a scale and an offset for all channels of a row"),
        (
            "kivi2",
            "keys and values of 2 bits, a scale and an offset for 32 rows of a channel of keys, and for 32 channels of "
            "a row of values; the last 128 values and the last n mod 128 of n keys as they are",
        ),
        ("token8", "keys and values of 8 bits, one scale for a row of a head"),
        (
            "svdq:group=8,residual=9",
            "keys without positions in the basis of their singular vectors, 8-4-4-2-0-0-0-0 bits for equal parts of "
            "the latent channels, a scale and an offset for 8 rows of a latent channel; values of 4 bits, a scale "
            "and an offset for 8 channels of a row; the last 9 rows as they are",
        ),
        (
            "token8:residual=9",
            "keys and values of 8 bits, one scale for a row of a head; the last 9 rows as they are",
        ),
    ],
)
def test_words(text, words):
    assert Precision.named(text).words == words


@pytest.mark.parametrize(
    ("text", "n", "keys", "values"),
    [
        ("kivi4", 300, 44, 128),
        ("kivi4", 256, 0, 128),  # KIVI keeps no key of a whole number of blocks, and 128 values always
        ("kivi4", 127, 127, 127),
        ("kivi4:residual=0", 300, 0, 0),
        ("4", 300, 0, 0),
        ("4:residual=7", 300, 7, 7),
        ("4:residual=7", 3, 3, 3),
        ("svdq", 300, 0, 0),
        ("svdq:residual=7", 300, 7, 7),
    ],
)
def test_rows_that_stay_as_they_are(text, n, keys, values):
    one = Precision.named(text)
    assert (one.full_keys(n), one.full_values(n)) == (keys, values)
    assert one.by_row == (text == "4")


def test_names_are_read_without_torch():
    code = "import sys, routegraph.validate.quantise.precision; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
