"""Tables and pages on terminals of every width and with every set of characters: no word is cut, nothing is lost."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from routegraph import simulate
from routegraph.stats.intervals import Interval
from routegraph.tables import Grid, Heading, Page, all_of, note, points, signed, words
from routegraph.text import written
from tests.helpers.commands import run

WIDTHS = [20, 40, 60, 80, 120]
GRID = Grid(
    ["policy", "what it does", "half point", "rmse"],
    [
        ["expected_attention", "Evict the lowest scores ± nothing.", "0.952 [0.951, 0.953]", "0.142"],
        ["topk", "", "not reached", ""],
    ],
    title="Where half of the tokens are gone, a row a policy",
    right_from=2,
)


def shown(page, width, encoding="utf-8"):
    sink = io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # an unknown character raises
    page.show(Console(file=sink, width=width, color_system=None, legacy_windows=False))
    sink.flush()
    return sink.buffer.getvalue().decode(encoding)


class TestNarrow:
    @pytest.mark.parametrize("width", WIDTHS)
    def test_every_word_is_whole_and_no_line_too_wide(self, width):
        text = shown(Page((GRID,)), width)
        told = " ".join([GRID.title, *(cell for row in GRID.rows for cell in row)])
        assert set(told.split()) <= set(text.split())
        assert max(len(line.rstrip()) for line in text.splitlines()) <= width

    def test_a_table_where_it_fits_and_a_line_a_cell_where_not(self):
        assert "policy             what it does" in shown(Page((GRID,)), 80)
        narrow = shown(Page((GRID,)), 40).splitlines()
        assert "policy: expected_attention" in narrow[2].rstrip()
        assert "  half point: 0.952 [0.951, 0.953]" in [line.rstrip() for line in narrow]
        assert "  half point: not reached" in [line.rstrip() for line in narrow], (
            "an empty cell takes no line"
        )

    def test_columns_share_the_room_before_words_are_cut(self):
        """rich alone makes all columns equally wide, and breaks the longest word of one of them."""
        grid = Grid(["a", "b", "c"], [["x", "short words only here", "incomprehensibilities"]], right_from=3)
        text = shown(Page((grid,)), 34)
        assert "a b" in text.splitlines()[0]
        assert "incomprehensibilities" in text

    def test_a_heading_of_two_lines_is_one_line_beside_its_cell(self):
        grid = Grid(["policy", "0.5\nkeep 76-141"], [["expected_attention", "83"]], right_from=1)
        assert "  0.5, keep 76-141: 83" in shown(Page((grid,)), 28)

    @pytest.mark.parametrize("width", [40, 60, 80])
    @pytest.mark.parametrize("command", [["list"], ["model", "list"], ["list", "grader"]])
    def test_commands(self, capsys, monkeypatch, width, command):
        monkeypatch.setenv("COLUMNS", str(width))
        status, out, _ = run(capsys, *command)
        assert status == 0
        assert "…" not in out
        assert max(map(len, out.splitlines())) <= width


class TestCharacters:
    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
    @pytest.mark.parametrize("width", [40, 60, 80])
    def test_a_page_is_shown_whole(self, encoding, width):
        page = Page((words("0.5 ± 0.1 → é…"), GRID, points(["a × b"]), note("≤ 1")))
        text = shown(page, width, encoding)
        if encoding == "ascii":
            assert "0.5 +- 0.1 -> e..." in text
            assert "- a x b" in text
        if encoding == "latin-1":
            assert "0.5 ± 0.1 -> é..." in text

    def test_what_is_nowhere_is_a_question_mark(self):
        assert written("日 ½ ? Ä²", "ascii") == "? 1/2 ? A2"
        assert written("日 ±") == "日 ±"

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
    def test_a_terminal_without_the_characters_loses_nothing(self, encoding):
        """Red before: all was computed, and the first ± ended the command."""
        small = ["--n-tokens", "64", "--n-layers", "2", "--n-heads", "2", "--replicates", "3"]
        done = subprocess.run(
            [sys.executable, "-m", "routegraph", "simulate", *small],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "60"},
        )
        assert done.returncode == 0, done.stderr
        assert ("+-" if encoding == "ascii" else "±") in done.stdout.decode(encoding)
        assert "no row is protected." in " ".join(done.stdout.decode(encoding).split())

    def test_what_is_not_in_a_table_is_shown_as_well(self):
        code = (
            "from routegraph.cli.terminal import console, note, write_anywhere; write_anywhere();"
            "console().print('caf\\u00e9 \\u00b1 \\u65e5'); note('\\u2026')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        assert (done.returncode, done.stdout.split()) == (0, [b"cafe", b"+-", b"?"])
        assert done.stderr.strip() == b"..."


def test_one_is_not_all():
    assert all_of(1, "slot") == "the only slot"
    assert all_of(8, "head") == "all 8 heads"


def test_nothing_is_less_than_nothing():
    assert signed(Interval(-0.0001, -0.0004, 0.0002)) == "+.000 [+.000, +.000]"
    assert signed(Interval(-0.0104, -0.02, 0.5)) == "-.010 [-.020, +.500]"


def test_a_table_without_rows_says_so():
    page = Page((Grid(["policy", "ratio"], [], "Prompts that break first"),))
    assert page.to_text() == "Prompts that break first: none."
    assert page.to_html() == "<p>Prompts that break first: none.</p>"


def test_no_markup_and_no_control_is_obeyed():
    hostile = "[red]a[/nope] :smile: \x1b[31m\r\n\x00"
    page = Page((Heading(hostile), words(hostile), note(hostile), Grid([hostile], [[hostile]], hostile)))
    text = page.to_text(200)
    assert text.count(r"[red]a[/nope] :smile: \x1b[31m\r") == 6
    assert not [one for one in text if ord(one) < 32 and one != "\n"]
    assert not [one for one in page.to_html() if ord(one) < 32 and one != "\n"]


def test_a_printed_result_is_its_summary():
    result = simulate(50, [0.5], n_layers=2, n_heads=2, replicates=3)
    assert str(result) == f"{result}" == result.summary()
    assert repr(result).startswith("<Simulation: Retention at ratio 0.5: ")
    assert "\n" not in repr(result)
