"""Where work runs: what a process that dies may and may not do to the others."""

import multiprocessing
import operator
import os
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from routegraph import executors
from routegraph._version import __version__
from routegraph.executors import ProcessExecutor, as_done, check_scheduler, check_versions, executor

DIES_WHILE_ANSWERING = """
import os, sys, threading
from concurrent.futures import BrokenExecutor
from routegraph.executors import executor

def answer(delay):
    threading.Timer(delay, os.kill, (os.getpid(), 9)).start()
    return bytes(100_000_000)

if __name__ == "__main__":
    for delay in (0, .04, .08, .13):
        with executor(2, processes=True) as pool:
            try:
                print(len(pool.submit(answer, delay).result()))
            except BrokenExecutor:
                print("broken")
"""


def test_a_process_killed_in_the_middle_of_its_result_is_noticed(tmp_path):
    """Through a pipe that others hold, too, the parent would wait for the other half for ever."""
    script = tmp_path / "script.py"
    script.write_text(DIES_WHILE_ANSWERING)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=True)
    assert len(done.stdout.split()) == 4
    assert set(done.stdout.split()) <= {"broken", "100000000"}
    assert done.stdout.split()[0] == "broken"


def refuse(value):
    raise EOFError(value)


def test_processes_hand_over_results_and_errors():
    with ProcessExecutor(1) as pool:
        assert pool.submit(operator.add, 2, 3).result(timeout=60) == 5
        with pytest.raises(ZeroDivisionError) as caught:
            pool.submit(operator.truediv, 2, 0).result(timeout=60)
        assert "In a worker process" in caught.value.__notes__[0]
        with pytest.raises(TypeError, match="cannot pickle"):
            pool.submit(memoryview, b"a").result(timeout=60)
        with pytest.raises(EOFError, match="seven"):  # of the task, and not of the pipe
            pool.submit(refuse, "seven").result(timeout=60)
        with pytest.raises(TypeError, match="cannot pickle"):
            pool.submit(len, memoryview(b"a")).result(timeout=60)
        assert pool.submit(operator.add, 2, 4).result(timeout=60) == 6
        assert len(multiprocessing.active_children()) == 1


def die_once(folder, name):
    """Die at the first call of a name, and tell which process answers at the next."""
    place = Path(folder) / name
    if not place.exists():
        place.touch()
        os._exit(9)
    return os.getpid()


def test_a_process_that_dies_loses_its_own_task_only_and_that_is_done_again(tmp_path):
    with executor(2, processes=True) as pool:
        others = {pool.submit(os.getpid).result(timeout=60)}
        found = [pool.submit(die_once, tmp_path, name).result(timeout=60) for name in "ab"]
        assert len({*found, *others}) > 1
        with pytest.raises(BrokenExecutor, match="died 3 times at the same task"):
            pool.submit(os._exit, 3).result(timeout=60)
        assert pool.submit(operator.add, 2, 3).result(timeout=60) == 5
    assert not multiprocessing.active_children()


def leave_early(futures):
    with executor(2, processes=True) as pool:
        futures += [pool.submit(time.sleep, 30) for _ in range(40)]
        time.sleep(1)
        raise KeyError


def test_leaving_early_waits_for_nothing():
    started, futures = time.monotonic(), []
    with pytest.raises(KeyError):
        leave_early(futures)
    assert time.monotonic() - started < 8
    assert sum(future.cancelled() for future in futures) > 30
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("how", [{}, {"workers": 3}])
def test_all_calls_are_answered_and_no_more_are_asked_for_than_there_is_room_for(how):
    asked = []

    def calls():
        for number in range(20):
            asked.append(number)
            yield number, operator.mul, (number, 2)

    with executor(**how) as pool:
        found = as_done(pool, calls(), 4)
        first = next(found)
        assert len(asked) == 4
        assert dict([first, *found]) == {number: 2 * number for number in range(20)}


def test_workers_that_die_again_and_again_are_said_in_one_sentence():
    with (
        executor(1, processes=True) as pool,
        pytest.raises(OSError, match="a worker died, and so did those .* the same command goes on"),
    ):
        list(as_done(pool, [(0, os._exit, (3,))], 1))


class TestSchedulers:
    def test_none_that_answers(self, monkeypatch):
        pytest.importorskip("distributed")
        monkeypatch.setattr(executors, "PATIENCE", 1)
        with pytest.raises(ValueError, match=r"no dask scheduler answers at 'tcp://127.0.0.1:9': "):
            check_scheduler("tcp://127.0.0.1:9")

    def test_versions(self):
        check_versions("s", {"a": __version__, "b": __version__})
        with pytest.raises(
            ValueError, match=rf"worker b .* runs routegraph 0.1, and this is .* {__version__}"
        ):
            check_versions("s", {"a": __version__, "b": "0.1"})
        with pytest.raises(ValueError, match=r"worker a .* has no routegraph"):
            check_versions("s", {"a": None})
        with pytest.warns(UserWarning, match="has no worker yet"):
            check_versions("s", {})

    def test_workers_of_another_version_are_refused(self, monkeypatch):
        distributed = pytest.importorskip("distributed")
        options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "protocol": "tcp://"}
        with distributed.LocalCluster(host="127.0.0.1", dashboard_address=None, **options) as cluster:
            check_scheduler(cluster.scheduler_address)
            monkeypatch.setattr(executors, "__version__", "99.0")
            with pytest.raises(
                ValueError, match=rf"runs routegraph {__version__}, and this is routegraph 99.0"
            ):
                check_scheduler(cluster.scheduler_address)
