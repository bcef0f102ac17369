"""Signals end a command quietly, with the exit status of the signal, and nothing that was done is lost."""

import os
import signal
import subprocess
import sys
import time

import pytest

SWEEP = [
    *("sweep", "--n-layers", "8", "--n-heads", "2", "--out", "s", "--replicates", "10000"),
    *("--n-tokens", "16", "--n-tokens", "4096"),
]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def stopped(tmp_path, arguments, number, until, group=False):
    """The exit status and stderr of a command to which a signal is sent once `until()` holds."""
    command = [sys.executable, "-m", "routegraph", *arguments]
    work = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell has what it runs in the background ignore Ctrl-C, and these tests may be run there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    limit = time.monotonic() + 120
    while not until() and work.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    assert work.poll() is None, work.communicate()[1]
    (os.killpg if group else os.kill)(work.pid, number)
    out, err = work.communicate(timeout=120)
    assert out == ""
    return work.returncode, err


@pytest.mark.parametrize(
    ("number", "word", "options"),
    [
        (signal.SIGTERM, "terminated", []),
        (signal.SIGINT, "interrupted", ["--processes", "--workers", "2"]),
    ],
)
def test_a_sweep_keeps_its_cells_and_says_one_line(tmp_path, number, word, options):
    """Ctrl-C reaches every process of the terminal: those that work say nothing of their own."""
    run = tmp_path / "s" / "run.json"
    status, err = stopped(
        tmp_path, [*SWEEP, *options], number, lambda: run.exists() and '"seed"' in run.read_text(), group=True
    )
    assert status == 128 + number
    assert err == f"error: {word}; sweep, measure, predict, extract and model train go on where they were\n"
    assert not [path.name for path in (tmp_path / "s").rglob("*.tmp")]
