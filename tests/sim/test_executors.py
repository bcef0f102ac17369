"""Where work runs: what a process that dies may and may not do to the others."""

import operator
import os
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor, CancelledError

import pytest

from routegraph.sim.executors import ProcessExecutor, executor

DIES_WHILE_ANSWERING = """
import os, sys, threading
from concurrent.futures import BrokenExecutor
from routegraph.sim.executors import executor

def answer(delay):
    threading.Timer(delay, os.kill, (os.getpid(), 9)).start()
    return bytes(100_000_000)

if __name__ == "__main__":
    for delay in (0, .04, .06, .08, .1, .13, .16, .2, .3):
        with executor(2, processes=True) as pool:
            try:
                print(len(pool.submit(answer, delay).result()))
            except BrokenExecutor:
                print("broken")
"""


def test_a_process_killed_in_the_middle_of_its_result_is_noticed(tmp_path):
    """Through a pipe the parent would wait for the other half for ever."""
    script = tmp_path / "script.py"
    script.write_text(DIES_WHILE_ANSWERING)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.split()) == 9
    assert set(done.stdout.split()) <= {"broken", "100000000"}
    assert done.stdout.split()[0] == "broken"


def test_processes_hand_over_results_errors_and_leave_no_file(tmp_path):
    with ProcessExecutor(1, str(tmp_path)) as pool:
        assert pool.submit(operator.add, 2, 3).result(timeout=60) == 5
        with pytest.raises(ZeroDivisionError):
            pool.submit(operator.truediv, 2, 0).result(timeout=60)
        assert not list(tmp_path.iterdir())
        with pytest.raises(TypeError, match="cannot pickle"):
            pool.submit(memoryview, b"a").result(timeout=60)


def test_a_broken_pool_refuses_more(tmp_path):

    with ProcessExecutor(1, str(tmp_path)) as pool:
        with pytest.raises(BrokenExecutor):
            pool.submit(os._exit, 3).result(timeout=60)
        with pytest.raises(BrokenExecutor):
            pool.submit(operator.add, 2, 3)


def leave_early(futures):
    with executor(2, processes=True) as pool:
        futures += [pool.submit(time.sleep, 0.5) for _ in range(40)]
        raise KeyError


def test_leaving_early_waits_for_nothing_that_has_not_begun():
    started, futures = time.monotonic(), []
    with pytest.raises(KeyError):
        leave_early(futures)
    assert time.monotonic() - started < 8
    assert any(isinstance(future.exception(), CancelledError) for future in futures)
