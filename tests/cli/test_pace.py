"""How slow work goes on: rates, the time that is left, and lines in a log."""

import pytest

from routegraph.cli import pace
from routegraph.cli.pace import Lines, Pace, progress, spoken


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_rest_takes_as_long_as_the_rate_so_far_says(clock):
    told = Pace(clock)
    assert told.words() == ""
    told.tell(0, 10)
    assert told.left() is None
    for done in (1, 2, 3):
        clock.now += 40
        told.tell(done, 10)
    assert told.left() == pytest.approx(7 * 40)
    clock.now += 30
    assert told.left() == pytest.approx(7 * 40 - 30), "while the next piece is under way"
    assert told.words() == "2 min, about 4 min left"
    clock.now += 1000
    assert told.left() == 0


def test_what_was_done_before_says_nothing_of_the_rate(clock):
    told = Pace(clock)
    told.tell(0, 100)
    for done in range(1, 91):
        clock.now += 0.001
        told.tell(done, 100)
    assert told.left() is None
    clock.now += 60
    told.tell(91, 100)
    assert told.left() == pytest.approx(9 * 60)


def test_pieces_that_end_together_are_no_pieces_that_take_no_time(clock):
    told = Pace(clock)
    told.tell(0, 8)
    clock.now += 60
    for done in (1, 2, 3, 4):  # four workers
        told.tell(done, 8)
    assert told.left() == pytest.approx(60)


def test_parts_of_a_piece_count(clock):
    told = Pace(clock)
    told.tell(0, 2)
    clock.now += 10
    told.tell(0.25, 2)
    assert told.left() == pytest.approx(70)


def test_a_guess_holds_until_something_is_known(clock):
    told = Pace(clock)
    told.tell(0, 4)
    told.expected = 100
    clock.now += 30
    assert told.left() == pytest.approx(70)
    clock.now += 80
    assert told.left() is None, "it takes longer than guessed"
    told.tell(1, 4)
    assert told.left() == pytest.approx(330)


def test_other_work_starts_afresh(clock):
    told = Pace(clock)
    told.tell(0, 4)
    clock.now += 100
    told.tell(4, 4)
    assert told.tell(0, 7)
    assert (told.left(), told.elapsed()) == (None, 0)


def test_a_log_has_a_line_now_and_then(clock, capsys):
    lines = Lines("items", Pace(clock))
    lines(0, 100, "first")
    lines.expect(5000)
    for done in range(1, 101):
        clock.now += 7
        lines(done, 100, f"\x1b[31m{done}")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "items: 100 to do, about 83 min in all"
    assert said[1] == "items: 3 of 100 (\\x1b[31m3), 21 s, about 11 min left"
    assert len(said) == 1 + 100 * 7 // 21
    assert "\x1b" not in "".join(said)


def test_quick_work_leaves_no_line(clock, capsys):
    lines = Lines("items", Pace(clock))
    lines(0, 3)
    lines.expect(4)
    for done in (1, 2, 3):
        clock.now += 2
        lines(done, 3)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_what_is_left_and_no_markup(monkeypatch, clock):
    import io
    import sys

    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(pace.Pace, "left", lambda self: 754.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress("items") as told:
        told(0, 5, "[red]one[/nope]\x07")
        told.bar.refresh()
    assert "[red]one[/nope]\\x07" in screen.getvalue()
    assert "about 13 min left" in screen.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (7200, "2.0 h"), (360000, "100.0 h")],
)
def test_times_as_people_say_them(seconds, words):
    assert spoken(seconds) == words
