"""One question's replies side by side."""

from dataclasses import replace

import numpy as np
import pytest

from routegraph.tables import Page
from routegraph.validate.measure.beside import (
    beside_blocks,
    beside_grid,
    beside_sentences,
    example,
    mark,
    said,
)
from tests.helpers.measured import synthetic

RATIOS = [0, 0.3, 0.5, 0.7]
REPLIES = (
    "1903. So it is.",
    "1903. So it is.",
    "1903.",
    "1850.",
    "1903. So it is.",
    "1850.",
    "I do not know.",
    "1903.",
)


@pytest.fixture
def found():
    """Two items under two policies: the first is right at first and lost, the second never right."""
    right = np.zeros((2, 2, 4), dtype=bool)
    right[0] = [[1, 1, 1, 0], [1, 0, 0, 1]]
    abstained = np.zeros_like(right)
    abstained[0, 1, 2] = True
    made = synthetic(right, {}, ratios=RATIOS, abstained=abstained)
    prompt = {"question": "In which year?", "answer": "1903", "answers": [], "task": "t"}
    return replace(made, cells=({"prompt": prompt},) * 2, names=("a", "b"), replies=(REPLIES, ("no",) * 8))


def test_the_question_the_reply_and_where_it_is_lost(found):
    assert beside_sentences(found, 0) == [
        'Asked "In which year?" about a text of 100 tokens, which says 1903.',
        'With the full cache made up replies "1903. So it is.", which is right.',
        "Under p0 it is not right any more at ratio .7, where 30 of 100 rows are left.",
        "Under p1 it is not right any more at ratio .3, where 70 of 100 rows are left, though right again at some "
        "larger one.",
    ]
    assert beside_sentences(found, 1)[1:] == ['With the full cache made up replies "no", which is not right.']


def test_replies_stand_side_by_side(found):
    grid = beside_grid(found, 0)
    assert grid.columns == ["ratio (rows left)", "p0", "p1"]
    assert grid.rows[0] == ["0 (100)", 'right: "1903. So it is."', 'right: "1903. So it is."']
    assert grid.rows[2] == [".5 (50)", 'right, changed: "1903."', 'does not know, changed: "I do not know."']
    assert grid.rows[3] == [".7 (30)", 'wrong, changed: "1850."', 'right, changed: "1903."']
    assert mark(found, 0, 0, 1) == "right, unchanged"


def test_many_ratios_and_policies_are_a_choice():
    right = np.ones((1, 5, 12), dtype=bool)
    made = synthetic(right, {}, ratios=[0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
    prompt = {"question": "Why?", "answer": "x", "answers": []}
    made = replace(made, cells=({"prompt": prompt},), names=("a",))
    grid = beside_grid(made, 0)
    assert [row[0] for row in grid.rows] == ["0 (100)", ".3 (70)", ".5 (50)", ".7 (30)", ".9 (9)"]
    assert grid.columns[1:] == ["p0", "p1"]
    assert "Under p0 the reply is right at every ratio shown." in beside_sentences(made, 0)


def test_an_example_is_right_at_first_and_lost_later(found):
    assert example(found) == 0
    assert example(found.only([1])) is None
    assert example(replace(found, answerable=np.array([False, True]))) is None
    assert example(replace(found, cells=({"prompt": {}},) * 2)) is None, (
        "early files do not tell the question"
    )


def test_of_several_the_one_that_is_lost_halfway(found):
    rows = [[[1, 1, 1, 1]] * 2, [[1, 0, 0, 0]] * 2, [[1, 1, 0, 0]] * 2, [[0, 1, 1, 0]] * 2]
    made = synthetic(np.array(rows, dtype=bool), {}, ratios=RATIOS)
    assert example(replace(made, cells=(found.cells[0],) * 4)) == 2


def test_long_replies_end_between_words(found):
    long = replace(found, replies=(("word " * 30,) * 8,) * 2)
    assert said(long, 0, 0, 0).endswith('word ..."')
    assert len(said(long, 0, 0, 0)) < 56


def test_shown_on_a_narrow_terminal(found):
    text = Page(tuple(beside_blocks(found, 0))).to_text(30)
    assert "ratio (rows left): .5 (50)" in text
    assert "  p1: does not know, changed:" in text
