"""Standard output and error that nobody reads, or that are closed."""

import os
import subprocess
import sys

import pytest

COMMAND = f"{sys.executable} -m routegraph"
GOOD = "simulate --n-tokens 16 --n-layers 2 --n-heads 2 --replicates 2"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="redirections are the shell's")


def status(line, tmp_path):
    """The exit status of the first command of a line of bash, and what was written to err."""
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"], cwd=tmp_path, capture_output=True, text=True
    )
    return done.returncode, done.stderr + (
        (tmp_path / "err").read_text() if (tmp_path / "err").exists() else ""
    )


@pytest.mark.parametrize("form", ["", "--json"])
@pytest.mark.parametrize("reader", ["2> err | head -1 > /dev/null", "2> err | true", "2>&1 | true"])
def test_a_reader_that_has_seen_enough_is_no_failure(tmp_path, form, reader):
    assert status(f"{COMMAND} {GOOD} {form} {reader}", tmp_path) == (0, "")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_failure_and_results_are_kept(tmp_path, closed):
    assert status(f"{COMMAND} {GOOD} --out kept.json {closed}", tmp_path) in (
        (0, ""),
        (0, "wrote kept.json\n"),
    )
    assert (tmp_path / "kept.json").read_text().startswith("{")


def test_bad_input_keeps_its_status_where_nobody_reads(tmp_path):
    assert status(f"{COMMAND} {GOOD} --ratio 7 2>&1 | true", tmp_path) == (2, "")
    assert status(f"{COMMAND} {GOOD} --ratio 7 2>&-", tmp_path) == (2, "")
