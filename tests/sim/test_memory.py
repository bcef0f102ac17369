import subprocess
import sys

import pytest

from routegraph import memory as free
from routegraph import simulate
from routegraph.sim import memory, run
from routegraph.sim.parameters import Parameters


def test_more_than_is_free_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(free, "available", lambda: 300_000_000)
    monkeypatch.setattr(run, "run_replicate", lambda *a: pytest.fail("it ran"))
    message = r"^n_tokens = 1048576 needs about 0\.[45] GB of memory, and 0\.3 GB is free$"
    with pytest.raises(ValueError, match=message):
        simulate(1 << 20, replicates=4, n_layers=2, workers=1)


@pytest.mark.parametrize(
    ("policy", "layers"), [("random", 1), ("bernoulli", 1), ("topk", 64), ("pyramid", 64)]
)
def test_levels_that_are_drawn_are_looked_at_in_one_layer(policy, layers):
    """Of a long context all layers take gigabytes, before the first replicate runs."""
    parameters = Parameters(n_tokens=128, n_layers=64, policy=policy)
    assert parameters.levels_of().drop.shape == (layers, 1, 128)


def test_fewer_workers_are_advised_where_they_help(monkeypatch):
    parameters = Parameters(n_tokens=100_000, n_layers=4, policy="topk")
    monkeypatch.setattr(free, "available", lambda: memory.needed(parameters, 2, 1) + 1)
    memory.check_memory(parameters, 2, 1)
    with pytest.raises(ValueError, match="with one worker it would fit"):
        memory.check_memory(parameters, 2, 2)


def test_measures_are_refused_for_the_graph_they_store(monkeypatch):
    parameters = Parameters(n_tokens=100_000, n_layers=4)
    monkeypatch.setattr(free, "available", lambda: memory.needed(parameters, 1, 1) + 1_000_000)
    memory.check_memory(parameters)
    with pytest.raises(ValueError, match="n_tokens = 100000 needs about"):
        run.run_measures(parameters, ["rollout"], [0.5], 1, workers=1)


def test_nothing_is_refused_where_the_system_does_not_say(monkeypatch):
    monkeypatch.setattr(free, "available", lambda: None)
    memory.check_memory(Parameters(n_tokens=100_000, policy="topk"), 10**9, 10**9)


def test_the_system_says_how_much_is_free():
    told = free.available()
    assert told is None or 10**7 < told < 10**14


RUN = """
import sys
from routegraph.sim import memory, run
from routegraph.sim.parameters import Parameters
parameters = Parameters(n_tokens=40_000, n_layers=16, policy=sys.argv[1])
run.run_replicate(parameters, 0, 0, 0)
# Not getrusage: what it calls the peak is inherited from the parent process.
status = open("/proc/self/status").read()
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
print(peak, memory.needed(parameters))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc/self/status")
@pytest.mark.parametrize("policy", ["random", "topk", "adakv"])
def test_the_estimate_covers_the_peak_and_does_not_double_it(policy):
    done = subprocess.run([sys.executable, "-c", RUN, policy], capture_output=True, text=True, check=True)
    peak, need = map(int, done.stdout.split())
    assert 0.8 * peak < need < 2.2 * peak
