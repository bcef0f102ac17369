"""Replies of real models under eviction, graded by hand: how far the graders agree with the reader."""

from studies.grading import HALVES, agreement, half, pairs, read, word
from studies.pages import DOCS

ROWS = read("replies.jsonl")
HELD_OUT = [row for row in ROWS if half(row) == HALVES[1]]


def test_there_are_enough_of_either_half_and_model():
    assert len(ROWS) >= 300
    assert len(HELD_OUT) >= 120
    assert len({row["model"] for row in HELD_OUT}) == 2
    assert {row["verdict"] for row in HELD_OUT} == {"right", "wrong", "abstained"}
    assert not any(row["hallucinated"] for row in ROWS if row["verdict"] != "wrong")


def test_contains_agrees_with_the_reader():
    hits = [word("contains", row) == row["verdict"] for row in HELD_OUT]
    assert sum(hits) >= 0.97 * len(hits)
    before = [word("prefix", row) == row["verdict"] for row in HELD_OUT]
    assert sum(hits) > sum(before)


def test_the_page_shows_what_comes_out():
    page = (DOCS / "grading.md").read_text("utf-8")
    for table in (agreement(ROWS), pairs()):
        assert table in page, "run python -m studies.grading"
