"""Sweeps: the same files whatever computed them, resumed, extended, checked."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from routegraph import files, simulate
from routegraph.sim import store
from routegraph.sim.parameters import Parameters
from routegraph.sim.replay import replay
from routegraph.sim.run import run_cell
from routegraph.sim.sweep import grid_of, load_sweep, sweep

GRID = {"n_tokens": [32, 64], "n_layers": [2, 3], "n_heads": 2, "replicates": 5}


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (folder / "cells").iterdir()}


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serial") / "sweep"
    sweep(folder, **GRID)
    return folder


def test_cells_hold_what_run_cell_gives(serial):
    found = load_sweep(serial)
    assert (len(found.cells), found.replicates) == (4, 5)
    for cell in found.cells:
        expected = run_cell(cell.parameters, 5, 0, cell.number)
        stored = store.unpack(cell.packed)
        for name in expected.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(stored, name), getattr(expected, name), err_msg=name)


def test_unpacking_blocks_is_unpacking_rows(serial):
    cell = load_sweep(serial).cells[0]
    whole = store.unpack(cell.packed)
    for block in (1, 2, 7):
        parts = list(cell.samples(block=block))
        np.testing.assert_array_equal(np.concatenate([p.reach for p in parts]), whole.reach)
        np.testing.assert_array_equal(np.concatenate([p.last_layer for p in parts]), whole.last_layer)


@pytest.mark.parametrize(
    "how", [{"workers": 2}, {"workers": 2, "processes": True}], ids=["threads", "processes"]
)
def test_threads_and_processes_write_the_same_files(serial, tmp_path, how):
    sweep(tmp_path / "other", **GRID, **how)
    assert digests(tmp_path / "other") == digests(serial)


def test_a_cell_of_many_tasks_is_in_the_order_of_its_replicates(tmp_path):
    for workers in (1, 3):
        found = sweep(
            tmp_path / str(workers), n_tokens=16, n_layers=2, n_heads=2, replicates=200, workers=workers
        )
    assert digests(tmp_path / "1") == digests(tmp_path / "3")
    (cell,) = found.cells
    expected = run_cell(cell.parameters, 200, 0, cell.number)
    np.testing.assert_array_equal(store.unpack(cell.packed).reach, expected.reach)


def test_dask_over_tcp_writes_the_same_files(serial, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "protocol": "tcp://"}
    with distributed.LocalCluster(host="127.0.0.1", dashboard_address=None, **options) as cluster:
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1")
        sweep(tmp_path / "other", **GRID, dask=cluster.scheduler_address)
    assert digests(tmp_path / "other") == digests(serial)


def test_cells_and_replicates_added_later_compute_only_what_is_new(serial, tmp_path, monkeypatch):
    grown = tmp_path / "grown"
    sweep(grown, **{**GRID, "replicates": 2, "n_tokens": 64})
    asked = []
    plain = sys.modules["routegraph.sim.sweep"].compute

    def counted(parameters, seed, ratio, first, last, *sources):
        asked.append((parameters.shape, first, last))
        return plain(parameters, seed, ratio, first, last, *sources)

    monkeypatch.setattr("routegraph.sim.sweep.compute", counted)
    result = sweep(grown, **GRID)
    assert digests(grown) == digests(serial)
    assert sorted(asked) == [((2, 2, 32), 0, 5), ((2, 2, 64), 2, 5), ((3, 2, 32), 0, 5), ((3, 2, 64), 2, 5)]
    assert result.replicates == 5
    fewer = sweep(grown, **{**GRID, "replicates": 3})  # nothing is computed, and no file changes
    assert len(asked) == 4
    assert fewer.curves("ger", [0.5]).shape == (4, 3, 1)
    assert digests(grown) == digests(serial)


def test_a_killed_sweep_resumes_to_the_same_files(tmp_path):
    program = (
        "import sys; from routegraph.sim.sweep import sweep\n"
        "sweep(sys.argv[1], n_tokens=[128, 512, 1024, 2048], n_layers=16, n_heads=4, replicates=40, seed=7)"
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, "-c", program, whole], check=True, timeout=120)
    process = subprocess.Popen([sys.executable, "-c", program, killed])
    deadline = time.monotonic() + 60
    while not list(killed.glob("cells/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {name: digest for name, digest in digests(killed).items() if name.endswith(".npz")}
    assert 1 <= len(done) < 4  # killed in the middle
    assert done.items() <= digests(whole).items()
    with files.atomic_open(killed / "cells" / "half.npz"):  # as if killed while writing
        (ours,) = killed.glob("cells/.half.npz.*.tmp")
        dead = ours.with_name(ours.name.replace(f"-{os.getpid()}-", f"-{process.pid}-"))
        dead.write_bytes(b"PK half")
    (killed / "cells" / "half.npz").unlink()
    subprocess.run([sys.executable, "-c", program, killed], check=True, timeout=120)
    assert digests(killed) == digests(whole)


def test_processes_that_share_a_folder_leave_each_other_alone(tmp_path):
    grid = {"n_tokens": [16, 24, 32, 40], "n_layers": [2, 3], "n_heads": 2, "replicates": 3}
    sweep(tmp_path / "alone", **grid)
    program = (
        "import os, sys, time; from routegraph.sim.sweep import sweep\n"
        "out, start = sys.argv[1:]\n"
        "open(start + str(os.getpid()), 'w').close()\n"
        "while not os.path.exists(start): time.sleep(.001)\n"
        f"for again in range(4): sweep(f'{{out}}{{again}}', **{grid!r})\n"
    )
    out, start = tmp_path / "shared", tmp_path / "start"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, out, start], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("start*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    start.touch()
    assert [process.communicate(timeout=120)[1] for process in processes] == [""] * 3
    for again in range(4):
        folder = tmp_path / f"shared{again}"
        assert len(json.loads((folder / "run.json").read_text())["runs"]) == 3
        assert digests(folder) == digests(tmp_path / "alone")


def test_more_replicates_that_another_process_wrote_meanwhile_are_kept(tmp_path, monkeypatch):
    few = {"n_tokens": 16, "n_layers": 2, "n_heads": 2, "replicates": 2}
    plain = sys.modules["routegraph.sim.sweep"].compute

    def overtaken(*given):
        monkeypatch.undo()
        sweep(tmp_path / "s", **{**few, "replicates": 5})
        return plain(*given)

    monkeypatch.setattr("routegraph.sim.sweep.compute", overtaken)
    sweep(tmp_path / "s", **few)
    assert load_sweep(tmp_path / "s").replicates == 5


def test_a_folder_of_something_else_with_a_run_is_no_sweep(tmp_path):
    files.write_json(tmp_path / "run.json", {"format": "routegraph measurement", "runs": []})
    with pytest.raises(ValueError, match="is not a sweep"):
        sweep(tmp_path, **GRID)
    assert json.loads((tmp_path / "run.json").read_text())["runs"] == []


def test_a_dead_worker_loses_no_finished_cell(tmp_path, monkeypatch):
    plain = sys.modules["routegraph.sim.sweep"].compute

    def dies(parameters, *rest):
        if parameters.n_tokens == 32:  # the cheapest come last
            raise RuntimeError("worker died")
        return plain(parameters, *rest)

    monkeypatch.setattr("routegraph.sim.sweep.compute", dies)
    with pytest.raises(RuntimeError, match="worker died"):
        sweep(tmp_path / "s", **GRID)
    assert len(digests(tmp_path / "s")) == 2
    monkeypatch.undo()
    sweep(tmp_path / "s", **GRID)
    assert len(digests(tmp_path / "s")) == 4


def test_a_process_killed_with_9_costs_its_task_only(tmp_path):
    program = (
        "import os, signal, sys, threading, time, multiprocessing\n"
        "from routegraph.sim.sweep import sweep\n"
        "def kill_a_worker():\n"
        "    while not (list(__import__('pathlib').Path(sys.argv[1]).glob('cells/*.npz'))): time.sleep(.005)\n"
        "    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)\n"
        "    print('killed')\n"
        "if __name__ == '__main__':\n"
        "    if len(sys.argv) > 2: threading.Thread(target=kill_a_worker, daemon=True).start()\n"
        "    sweep(sys.argv[1], n_tokens=[128, 512, 1024, 2048], n_layers=16, n_heads=4, replicates=60,\n"
        "          workers=2, processes=True)\n"
    )
    script, folder = tmp_path / "script.py", tmp_path / "s"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, script, folder, "kill"], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "killed\n"
    subprocess.run([sys.executable, script, tmp_path / "whole"], check=True, timeout=120)
    assert digests(folder) == digests(tmp_path / "whole")
    assert len(digests(folder)) == 4


def test_a_cell_file_tells_nothing_of_the_run(serial):
    path = next((serial / "cells").iterdir())
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("cell.json"))
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert set(header) == {"format", "format_version", "seed", "cell", "ratio", "replicates", "parameters"}
    assert len(json.loads((serial / "run.json").read_text())["runs"]) == 1
    assert np.load(path)["reach.count"].dtype == np.uint8


def test_names_of_cells_never_change():
    """A parameter added later must give no stored cell a new name, hence other random numbers."""
    assert store.canonical(Parameters()) == "{}"
    lattice = Parameters(
        n_tokens=40,
        n_layers=16,
        n_heads=2,
        ensemble="lattice",
        policy="bernoulli",
        policy_parameters=(("resolution", 64),),
    )
    assert store.canonical(lattice) == (
        '{"ensemble":"lattice","n_heads":2,"n_layers":16,"n_tokens":40,"policy":"bernoulli",'
        '"policy_parameters":{"resolution":64}}'
    )
    assert store.cell_number(lattice) == 0xA266546B
    assert store.cell_name(Parameters(score_correlation=0)) == store.cell_name(
        Parameters(score_correlation=0.0)
    )


def test_a_stored_cell_of_this_version_still_loads_and_replays():
    path = next((Path(__file__).parents[1] / "data" / "sweep" / "cells").glob("*.npz"))
    assert replay(path) == (3, None)


def test_curves_are_those_of_simulate_in_law():
    found = sweep(n_tokens=[64, 128], n_layers=4, n_heads=2, replicates=300)
    ratios = [0.2, 0.5, 0.8]
    for s, n in enumerate((64, 128)):
        other = simulate(n, ratios, n_layers=4, n_heads=2, replicates=300, seed=1)
        for name in ("reach_fraction", "eviction_rate_layer"):
            mean, error = other.estimate(name, ratios)
            mine = found.curves(name, ratios)[s]
            spread = np.hypot(error, mine.std(axis=0) / np.sqrt(300))
            assert np.all(np.abs(mine.mean(axis=0) - mean) < 4.5 * spread + 1e-12), name


def test_a_policy_that_is_not_nested_is_swept_ratio_by_ratio(tmp_path):
    settings = {"window": 8}
    with pytest.raises(ValueError, match="name the ratios"):
        sweep(n_tokens=64, policy="pyramid", settings=settings, n_layers=2, n_heads=2)
    found = sweep(
        tmp_path / "s",
        n_tokens=64,
        policy="pyramid",
        settings=settings,
        n_layers=2,
        n_heads=2,
        ratio=[0.3, 0.9],
    )
    assert len(found.cells) == 2
    curves = load_sweep(tmp_path / "s").curves("ger_layer", [0.9, 0.3])
    assert curves.shape == (1, 32, 2)
    assert curves[0, :, 0].mean() > curves[0, :, 1].mean()
    with pytest.raises(ValueError, match=r"swept at 0.3, 0.9 only, not 0.5"):
        found.curves("ger", [0.5])


def test_survives_is_reach_of_any_token():
    found = sweep(n_tokens=16, n_layers=3, n_heads=2, replicates=20, residual=False)
    ratios = np.linspace(0, 0.99, 30)
    alive, share = found.curves("survives", ratios), found.curves("reach_fraction", ratios)
    np.testing.assert_array_equal(alive, share > 0)
    assert 0 < alive.mean() < 1


def test_grids():
    cells = grid_of(
        {"n_layers": [4, 8], "n_tokens": [10, 18], "n_heads": [1, 2]}, None, ["n_layers", "n_tokens"]
    )
    assert sorted(c.shape for c in cells) == [(4, 1, 10), (4, 2, 10), (8, 1, 18), (8, 2, 18)]
    windows = grid_of({"ensemble": "window"}, [{"window": 4}, {"window": 8}, {"window": 4}])
    assert [dict(c.ensemble_parameters)["window"] for c in windows] == [4, 8]
    with pytest.raises(ValueError, match="n_layers 2, n_tokens 1"):
        grid_of({"n_layers": [4, 8], "n_tokens": 16}, None, ["n_layers", "n_tokens"])
    with pytest.raises(ValueError, match="unknown parameter 'n_token'"):
        grid_of({"n_token": 3})


def test_selection_and_scales(serial):
    found = load_sweep(serial)
    with pytest.raises(ValueError, match="clashing parameters.*n_layers takes 2, 3"):
        found.by_size("n")
    chosen = found.where(n_layers=3).by_size("n")
    assert chosen.sizes("n").tolist() == [32, 64]
    assert chosen.sizes("M").tolist() == [6, 6]
    assert found.sizes("L/ln n") == pytest.approx(found.sizes("L") / np.log(found.sizes("n")))
    with pytest.raises(ValueError, match=r"no cell of the sweep has n_layers = 9; choose from: 2, 3"):
        found.where(n_layers=9)
    assert chosen.natural_scale("reach_fraction") == "n"
    assert found.natural_scale("reach_fraction") == "L/ln n"


# --- files that cannot be trusted -------------------------------------------------------------------


def copied(serial, tmp_path):
    folder = tmp_path / "copy"
    (folder / "cells").mkdir(parents=True)
    (folder / "run.json").write_bytes((serial / "run.json").read_bytes())
    for path in (serial / "cells").iterdir():
        (folder / "cells" / path.name).write_bytes(path.read_bytes())
    return folder, sorted((folder / "cells").iterdir())[0]


def flipped(data):
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:-10],
        lambda d: d[: len(d) // 2],
        flipped,
        lambda d: d + b"x",
        lambda _: b"",
        lambda _: b"text",
    ],
    ids=["tail", "half", "bit", "longer", "empty", "text"],
)
def test_damaged_files_are_named_and_skipped_only_when_asked(serial, tmp_path, damage):
    folder, path = copied(serial, tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=path.name):
        load_sweep(folder)
    with pytest.raises(ValueError, match=path.name):
        sweep(folder, **GRID)
    found = load_sweep(folder, skip_damaged=True)
    assert len(found.cells) == 3
    assert path.name in found.damaged[0]
    sweep(folder, **GRID, skip_damaged=True)
    assert digests(folder) == digests(serial)


def test_a_cell_under_another_cells_name_clashes(serial, tmp_path):
    folder, path = copied(serial, tmp_path)
    other = sorted((folder / "cells").iterdir())[1]
    path.write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match="clashes"):
        load_sweep(folder)


def test_seeds_are_not_mixed(serial, tmp_path):
    folder, path = copied(serial, tmp_path)
    with pytest.raises(ValueError, match="holds a sweep of seed 0, not 1"):
        sweep(folder, **GRID, seed=1)
    cell = store.read_cell(path)
    path.unlink()
    store.write_cell(path.parent, store.Cell(cell.parameters, 5, None, cell.packed))
    with pytest.raises(ValueError, match="clash: seeds 0, 5"):
        load_sweep(folder)


def test_replay_finds_the_first_difference_even_where_checksums_fit(serial, tmp_path):
    folder, path = copied(serial, tmp_path)
    assert replay(path) == (5, None)
    assert replay(path, [3]) == (1, None)
    cell = store.read_cell(path)
    table = cell.packed["answer_reach"].astype(np.int64)
    table[3, 2] += 1
    store.write_cell(
        folder / "cells", store.Cell(cell.parameters, 0, None, {**cell.packed, "answer_reach": table})
    )
    done, difference = replay(path)
    assert done == 4
    assert difference.startswith("replicate 3: answer_reach differs at answer token 2: stored ")
    with pytest.raises(ValueError, match=r"replicate must be in 0..4, got 5"):
        replay(path, [5])


def test_what_is_not_a_sweep_is_said(tmp_path):
    with pytest.raises(ValueError, match="is not a sweep"):
        load_sweep(tmp_path)
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="choose an empty or a new folder"):
        sweep(tmp_path, **GRID)
    with pytest.raises(ValueError, match="does not exist"):
        sweep(tmp_path / "no" / "such", **GRID)
    assert os.listdir(tmp_path) == ["thesis.tex"]
    (tmp_path / "e").mkdir()
    sweep(tmp_path / "e", **GRID)
    for path in (tmp_path / "e" / "cells").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="holds no finished cell"):
        load_sweep(tmp_path / "e")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replicates": 0}, "replicates"),
        ({"workers": 0}, "workers"),
        ({"seed": -1}, "seed"),
        ({"n_tokens": [64, -1]}, "n_tokens"),
        ({"n_tokens": []}, "n_tokens needs at least one value"),
        ({"dask": "nowhere"}, "dask must be"),
        ({"dask": "local", "processes": True}, "either processes or dask"),
        ({"settings": {"widht": 3}}, "widht"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        sweep(tmp_path / "s", **{**GRID, **options})
    assert not list(tmp_path.glob("s/cells/*.npz"))
