"""Who computes the items: the same bytes from everybody, and what is refused before anything starts."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from routegraph import plugins
from routegraph._version import __version__
from routegraph.executors import ProcessExecutor, SerialExecutor
from routegraph.trace import Trace
from routegraph.validate import work as working
from routegraph.validate.certify.ask import measure_and_predict
from routegraph.validate.measure.item import Item
from routegraph.validate.measure.run import measure, planned
from routegraph.validate.models import size
from routegraph.validate.models.load import fingerprint, load
from routegraph.validate.models.origin import Origin, parameters_of
from routegraph.validate.predict.run import predict
from routegraph.validate.presses.own import own_press
from routegraph.validate.probe.features import item_features
from routegraph.validate.tasks import load_task
from routegraph.validate.traces.extract import extract, extract_to_file
from routegraph.validate.work import HERE, Work, _Head, _in_worker, compute, in_order
from tests.helpers.commands import run
from tests.helpers.models import tiny_model

ASKED = {"policy_names": ["topk", "adakv"], "ratios": [0.5, 0.8], "chunk_length": 16, "max_new_tokens": 2}


class Pickling(SerialExecutor):
    """Hands everything over as to another process, and asks the last one first."""

    def __init__(self):
        self.sent = []

    def submit(self, fn, /, *args, **kwargs):
        self.sent.append(pickle.dumps((fn, args, kwargs)))

        def there():
            function, given, named = pickle.loads(self.sent[-1])
            return pickle.loads(pickle.dumps(function(*given, **named)))

        return super().submit(there)


@pytest.fixture
def there():
    """Workers that are this process, to which everything is sent all the same."""
    torch.set_num_threads(1)
    working._held.clear()
    yield Work(2, pool=Pickling(), threads=1)
    working._held.clear()


def cells(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "cells").iterdir())}


@pytest.fixture(scope="module")
def tiny():
    torch.set_num_threads(1)
    return load("llama-tiny")


@pytest.fixture(scope="module")
def prompts():
    return load_task("words_forward", 4)


class TestTheSameFromEverybody:
    def test_measured_and_predicted(self, tiny, prompts, there, tmp_path, monkeypatch):
        loads = []

        def counted(*given, **named):
            if not named:  # as a worker does
                loads.append(given)
            return load(*given, **named)

        monkeypatch.setattr(working, "load", counted)
        told = []
        for folder, work in (("here", HERE), ("there", there)):
            told.clear()
            measure(
                tiny,
                prompts,
                tmp_path / folder,
                metrics=True,
                work=work,
                progress=lambda *given: told.append(given[:2]),
                **ASKED,
            )
            predict(tiny, prompts, tmp_path / f"{folder}-p", tries=1, work=work, **ASKED)
        assert cells(tmp_path / "here") == cells(tmp_path / "there")
        assert cells(tmp_path / "here-p") == cells(tmp_path / "there-p")
        assert len(there.pool.sent) == 2 * len(prompts)
        assert loads == [("llama-tiny", "float32", "cpu")], "one load a worker"
        assert told[0] == (0, 4)
        assert told[-1] == (4, 4)
        assert told == sorted(told)
        run = json.loads((tmp_path / "there" / "run.json").read_text())
        assert (run["threads"], run["runs"][0]["measured"]) == (1, 4)
        again = measure(tiny, prompts, tmp_path / "there", metrics=True, work=there, **ASKED)
        assert len(there.pool.sent) == 2 * len(prompts), "what is there is not sent"
        assert again.ids == tuple(prompt.id for prompt in prompts)

    def test_measured_for_a_certificate(self, tiny, prompts, there, tmp_path):
        for folder, work in (("here", HERE), ("there", there)):
            (tmp_path / folder).mkdir()
            measure_and_predict(tiny, prompts[:2], tmp_path / folder, tries=1, work=work, **ASKED)
        for part in ("measured", "predicted"):
            assert cells(tmp_path / "here" / part) == cells(tmp_path / "there" / part)

    def test_extracted(self, prompts, there, tmp_path):
        source = tmp_path / "prompts.jsonl"
        source.write_text("".join(json.dumps(prompt.to_dict()) + "\n" for prompt in prompts))
        for name, work in (("here", HERE), ("there", there)):
            extract_to_file(
                "llama-tiny", source, tmp_path / f"{name}.npz", chunk_length=16, graphs=True, work=work
            )
        assert (tmp_path / "here.npz").read_bytes() == (tmp_path / "there.npz").read_bytes()
        assert [trace.id for trace in Trace.load(tmp_path / "there.npz")] == [p.id for p in prompts]
        assert len(there.pool.sent) == len(prompts)

    def test_probed(self, tiny, prompts, there):
        plan = planned(keep=(), **ASKED)
        items = [(prompt.id, (Item.read(tiny, prompt, plan), plan)) for prompt in prompts]
        found = [in_order(tiny, item_features, items, work) for work in (HERE, there)]
        for one, other in zip(*found, strict=True):
            for left, right in zip(one, other, strict=True):
                np.testing.assert_array_equal(left, right)

    def test_the_order_of_answers_does_not_matter(self, tiny, there):
        def backwards(pool, calls, ahead):
            return reversed([(key, function(*given)) for key, function, given in calls])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(working, "as_done", backwards)
            assert in_order(tiny, echo, [("a", (1,)), ("b", (2,))], there) == [1, 2]


def echo(model, value):
    return value


def threads_of(model):
    return torch.get_num_threads()


class TestThreads:
    def test_by_default_the_cores_are_shared_out(self, monkeypatch):
        monkeypatch.setattr(os, "cpu_count", lambda: 12)
        assert [Work(n).n_threads() for n in (2, 5, 30)] == [6, 2, 1]
        assert Work(3, threads=20).n_threads() == 12
        assert HERE.n_threads() == torch.get_num_threads()
        pytest.importorskip("distributed")
        assert Work(2, "local").n_threads() == 6
        assert Work(1, "tcp://far:8786").n_threads() == 1
        assert Work(1, "tcp://far:8786", 20).n_threads() == 20

    def test_items_are_computed_with_them_and_no_more_changes(self, tiny, there):
        torch.set_num_threads(1)
        for work in (HERE, there):
            assert list(compute(tiny, threads_of, [(0, ())], work, threads=2)) == [(0, 2)]
            assert torch.get_num_threads() == 1

    def test_a_folder_keeps_to_its_number(self, tiny, prompts, tmp_path, monkeypatch):
        """Sums of torch differ with it in their last digits."""
        monkeypatch.setattr(os, "cpu_count", lambda: 4)
        seen = []
        plain = working._threads
        monkeypatch.setattr(working, "_threads", lambda count: seen.append(count) or plain(count))
        measure(tiny, prompts[:1], tmp_path / "m", work=Work(threads=2), **ASKED)
        measure(tiny, prompts[:2], tmp_path / "m", **ASKED)
        assert seen == [2, 2]
        with pytest.raises(ValueError, match="was measured with 2 threads of torch, not 1"):
            measure(tiny, prompts, tmp_path / "m", work=Work(threads=1), **ASKED)
        run = json.loads((tmp_path / "m" / "run.json").read_text())
        del run["threads"]  # of an earlier version: it goes on with any
        (tmp_path / "m" / "run.json").write_text(json.dumps(run))
        measure(tiny, prompts[:3], tmp_path / "m", work=Work(threads=1), **ASKED)
        assert seen == [2, 2, 1]


class TestWorkers:
    def test_refuse_another_version_and_other_weights(self, tiny, there):
        head = _Head(__version__, tiny.origin, fingerprint(tiny), 1, ())
        assert _in_worker(head, echo, 7) == 7
        with pytest.raises(
            ValueError, match=rf"a worker has routegraph {__version__}, and routegraph 0.1 asks"
        ):
            _in_worker(replace(head, version="0.1"), echo, 7)
        with pytest.raises(ValueError, match="a worker finds other weights under 'llama-tiny'"):
            _in_worker(replace(head, weights="others"), echo, 7)

    def test_hold_one_model_and_do_one_item_at_a_time(self, tiny, there):
        head = _Head(__version__, tiny.origin, fingerprint(tiny), 1, ())
        _in_worker(head, echo, 7)
        other = load("qwen-tiny")
        _in_worker(_Head(__version__, other.origin, fingerprint(other), 1, ()), echo, 7)
        assert list(working._held) == [other.origin]
        seen: list[int] = []
        together = [threading.Thread(target=_in_worker, args=(head, busy, seen)) for _ in range(3)]
        for one in together:
            one.start()
        for one in together:
            one.join()
        assert seen == [1, 0] * 3

    def test_know_where_a_model_came_from(self, tiny, tmp_path, monkeypatch):
        assert tiny.origin == Origin("llama-tiny", "float32", "cpu")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine").mkdir()
        assert Origin.of("mine", "bfloat16", "cpu").model == str(tmp_path / "mine")
        assert Origin.of("owner/name", "float32", "cpu").model == "owner/name"
        held = sum(p.numel() for p in tiny.model.parameters())
        assert 0.9 * held < parameters_of("llama-tiny") < 1.1 * held
        assert parameters_of("owner/name") is None

    def test_get_no_model_that_was_in_memory(self, prompts):
        with pytest.raises(ValueError, match="in memory already cannot be given to workers"):
            measure(tiny_model(), prompts, work=Work(2), **ASKED)
        with pytest.raises(ValueError, match="in memory already cannot be given to workers"):
            Work(2).load(tiny_model().model)


def busy(model, seen):
    seen.append(1)
    time.sleep(0.05)
    seen.append(0)


class TestMemory:
    @pytest.mark.parametrize(
        ("workers", "here", "free", "fits"),
        [(2, 0, 8.9, True), (2, 0, 8.7, False), (2, 1, 12.9, True), (2, 1, 12.7, False)],
    )
    def test_models_are_counted(self, monkeypatch, workers, here, free, fits):
        monkeypatch.setattr(size, "available", lambda: int(free * 1e9))
        asked = ("m", 10**9, "float32", "cpu", workers, here)
        size.check_workers_fit("m", None, "float32", "cpu", 10**6, 1)
        if fits:
            size.check_workers_fit(*asked)
        else:
            with pytest.raises(ValueError, match=r"2 workers need about .* and .* GB is free, enough for 1"):
                size.check_workers_fit(*asked)

    def test_half_the_bytes_twice_the_workers(self, monkeypatch):
        monkeypatch.setattr(size, "available", lambda: int(10e9))
        size.check_workers_fit("m", 10**9, "bfloat16", "cpu", 4, 0)
        with pytest.raises(
            ValueError, match=r"5 workers need about 12.0 GB of memory, a model 'm' each in bfloat16"
        ):
            size.check_workers_fit("m", 10**9, "bfloat16", "cpu", 5, 0)

    def test_on_a_device(self, monkeypatch):
        monkeypatch.setattr(size, "available", lambda: int(100e9))
        monkeypatch.setattr(size, "_on_device", lambda device: int(9e9) if device == "cuda" else None)
        size.check_workers_fit("m", 10**9, "float32", "cuda", 2, 1)
        with pytest.raises(ValueError, match=r"3 workers need about 12.0 GB of cuda, .* enough for 2"):
            size.check_workers_fit("m", 10**9, "float32", "cuda", 3, 1)


COMMANDS = {
    "measure": ["llama-tiny", "--task", "words_forward", "--out", "m"],
    "predict": ["llama-tiny", "--task", "words_forward", "--out", "m"],
    "probe": ["llama-tiny", "--task", "words_forward"],
    "extract": ["llama-tiny", "--prompts", "bundled", "--out", "m.npz"],
    "certify": ["llama-tiny", "--prompts", "words_forward", "--into", "m"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--workers", "0"], "workers must be a whole number of at least 1, got 0"),
        (["--workers", "9999999"], "9999999 workers need about"),
        (["--workers", "2", "--threads", "0"], "threads must be a whole number of at least 1, got 0"),
        (["--dask", "nowhere"], "dask must be 'local' or the address of a scheduler"),
        (["--dask", "tcp://127.0.0.1:9"], "no dask scheduler answers at 'tcp://127.0.0.1:9'"),
    ],
)
def test_bad_input_is_one_plain_line(capsys, tmp_path, monkeypatch, command, more, words):
    pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("routegraph.executors.PATIENCE", 0.2)
    status, out, err = run(capsys, command, *COMMANDS[command], *more)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert words in err
    assert not list(tmp_path.iterdir())


def test_certifying_cells_takes_no_workers(capsys):
    status, _, err = run(capsys, "certify", "cells", "--workers", "2")
    assert (status, err) == (2, "error: --workers says how to ask prompts, and goes with --prompts FILE\n")


LOUD = '''
from kvpress import ScorerPress

class Loud(ScorerPress):
    """Keep rows whose values are long."""

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        return values.norm(dim=-1)
'''


@pytest.mark.verify  # two processes, each of which loads torch and kvpress
def test_a_process_that_is_killed_costs_its_item_only(tmp_path, restored):
    """A real process, which knows the user's own press from its text alone, killed when the first cell is there."""
    torch.set_num_threads(1)
    (tmp_path / "loud.py").write_text(LOUD)
    own_press(f"{tmp_path / 'loud.py'}:Loud")
    asked = {**ASKED, "policy_names": ["Loud", "topk"]}
    prompts, model = load_task("words_forward", 3), load("llama-tiny")
    measure(model, prompts, tmp_path / "here", **asked)
    (tmp_path / "loud.py").unlink()
    seen = []

    def kill(done, _total, _label):
        if done == 1 and not seen:
            seen.extend(multiprocessing.active_children())
            os.kill(seen[0].pid, 9)
            time.sleep(0.1)

    pool = ProcessExecutor(1)
    measure(model, prompts, tmp_path / "there", work=Work(2, pool=pool, threads=1), progress=kill, **asked)
    (left,) = multiprocessing.active_children()
    pool.shutdown()
    assert [one.exitcode for one in seen] == [-9]
    assert left.pid != seen[0].pid
    assert cells(tmp_path / "here") == cells(tmp_path / "there")


SCHEDULER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    options = {"threads_per_worker": 2, "dashboard_address": None, "protocol": "tcp://"}
    with LocalCluster(n_workers=2, host="127.0.0.1", memory_limit=None, **options) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@pytest.mark.verify
class TestOverTcp:
    """Two workers of a scheduler in another process, each with two threads."""

    @pytest.fixture
    def address(self, tmp_path):
        pytest.importorskip("distributed")
        (tmp_path / "scheduler.py").write_text(SCHEDULER)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with subprocess.Popen(
            [sys.executable, tmp_path / "scheduler.py"], env=environment, **pipes
        ) as process:
            yield process.stdout.readline().strip()
            process.stdin.close()

    def test_the_same_bytes_also_after_one_was_killed(self, address, tmp_path):
        from distributed import Client

        torch.set_num_threads(1)
        prompts, model = load_task("words_forward", 12), load("llama-tiny")
        measure(model, prompts, tmp_path / "here", metrics=True, **ASKED)
        killed = []

        def kill(done, _total, _label):
            if done == 2 and not killed:
                with Client(address) as client:
                    pids = client.run(os.getpid)
                    killed.extend(pids.values())
                    os.kill(killed[0], 9)

        measure(
            model, prompts, tmp_path / "there", metrics=True, work=Work(1, address), progress=kill, **ASKED
        )
        assert len(killed) == 2
        assert cells(tmp_path / "here") == cells(tmp_path / "there")
        traces = [extract(model, prompts[:3], 16, work=work) for work in (HERE, Work(1, address))]
        for one, other in zip(*traces, strict=True):
            np.testing.assert_array_equal(
                one.scores["expected_attention"], other.scores["expected_attention"]
            )
        assert plugins.loaded() == ()
