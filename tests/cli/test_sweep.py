"""The commands sweep, fit and replay."""

import json
import subprocess
import sys

import pytest

from routegraph.critical.fit import CriticalFit
from routegraph.sim.sweep import load_sweep
from tests.helpers.commands import run

SMALL = ["sweep", "--n-tokens", 32, "--n-tokens", 64, "--n-tokens", 128, "--n-layers", 3, "--n-heads", 2]


@pytest.fixture
def swept(tmp_path, capsys):
    folder = tmp_path / "swept"
    assert run(capsys, *SMALL, "--replicates", 12, "--out", folder)[0] == 0
    return folder


def test_sweep_prints_its_cells_and_json(capsys, tmp_path):
    status, out, err = run(capsys, *SMALL, "--replicates", 4, "--out", tmp_path / "s", "--json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert (document["seed"], document["replicates"], len(document["cells"])) == (0, 4, 3)
    assert {cell["n_tokens"] for cell in document["cells"]} == {32, 64, 128}
    status, out, _ = run(capsys, *SMALL, "--replicates", 4, "--out", tmp_path / "s")
    assert status == 0
    assert "3 cells" in out
    assert document["cells"][0]["file"] in out


def test_axes_walked_together(capsys, tmp_path):
    status, out, _ = run(
        capsys, "sweep", "--n-layers", 4, "--n-layers", 8, "--n-tokens", 10, "--n-tokens", 18, "--n-heads", 2,
        "--together", "n-layers,n-tokens", "--ensemble", "lattice", "--policy", "bernoulli", "--no-residual",
        "--set", "resolution=256", "--n-answers", 1, "--replicates", 8, "--out", tmp_path / "s", "--json",
    )  # fmt: skip
    assert status == 0
    assert [(c["n_layers"], c["n_tokens"]) for c in json.loads(out)["cells"]] == [(4, 10), (8, 18)]
    assert json.loads(out)["cells"][0]["settings"] == {"resolution": 256}
    status, out, _ = run(capsys, "fit", tmp_path / "s", "--observable", "survives", "--json")
    assert status == 0
    assert json.loads(out)["scale"] == "L"


def test_fit_tells_saves_and_draws(capsys, swept, tmp_path):
    figure, saved = tmp_path / "fit.svg", tmp_path / "fit.json"
    status, out, _ = run(
        capsys, "fit", swept, "--observable", "eviction_rate_layer", "--plot", figure, "--out", saved
    )
    assert status == 0
    for word in ("critical ratio", "verdict", "crossover", "because", "12 replicates"):
        assert word in out
    assert figure.read_text().rstrip().endswith("</svg>")
    status, out, err = run(capsys, "fit", swept, "--observable", "eviction_rate_layer", "--json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document == CriticalFit.load(saved).to_dict()
    assert document["ci"][0] < document["alpha_c"] < document["ci"][1]
    for name in ("nu", "zeta", "quality", "method", "verdict", "warnings", "seed", "version"):
        assert name in document


def test_the_exponent_of_what_dies_out_is_below_zero(capsys, swept):
    given = [
        "fit",
        swept,
        "--observable",
        "eviction_rate_layer",
        "--method",
        "peak",
        "--json",
        "--zeta-over-nu",
    ]
    status, out, err = run(capsys, *given, "-0.16")
    assert status == 0, err
    assert json.loads(out)["details"]["given_zeta_over_nu"] == -0.16
    for far in ("10", "-10"):
        status, _, err = run(capsys, *given, far)
        assert (status, err) == (2, f"error: zeta_over_nu must be in (-10, 10), got {float(far)}\n")


def test_replay_says_identical_or_the_first_difference(capsys, swept):
    path = next((swept / "cells").iterdir())
    status, out, _ = run(capsys, "replay", path, "--replicate", 3)
    assert status == 0
    assert out.startswith("identical: 1 replicate")
    status, out, _ = run(capsys, "replay", path, "--json")
    assert json.loads(out)["identical"] is True
    from routegraph.sim import store

    cell = store.read_cell(path)
    packed = {**cell.packed, "reach.count": cell.packed["reach.count"].astype(int)}
    counts = packed["reach.count"][: packed["reach.length"][0]]
    most = counts.argmax()
    counts[[most, most - 1]] += [-1, 1]  # as many in all, or it would be refused as damaged
    store.write_cell(path.parent, store.Cell(cell.parameters, cell.seed, None, packed))
    status, out, err = run(capsys, "replay", path)
    assert (status, out) == (1, "")
    assert "not identical: replicate 0: reach differs at bin" in err
    assert err.count("\n") == 1


def test_replay_of_a_result_of_simulate(capsys, tmp_path):
    path = tmp_path / "result.json"
    run(capsys, "simulate", "--n-tokens", 64, "--n-layers", 2, "--replicates", 3, "--seed", 4, "--out", path)
    assert run(capsys, "replay", path)[0] == 0
    document = json.loads(path.read_text())
    document["results"][0]["reach_fraction"]["mean"] += 1e-12
    path.write_text(json.dumps(document))
    status, _, err = run(capsys, "replay", path)
    assert status == 1
    assert "mean of reach_fraction at ratio 0.9: stored" in err
    path.write_text("{}")
    assert run(capsys, "replay", path)[0] == 2


def test_damaged_files_are_skipped_only_with_the_flag(capsys, swept):
    path = next((swept / "cells").iterdir())
    path.write_bytes(path.read_bytes()[:-1])
    for arguments in (
        ["fit", swept, "--observable", "ger"],
        [*SMALL, "--replicates", 12, "--out", swept],
        ["replay", path],
    ):
        status, out, err = run(capsys, *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert path.name in err
    status, _, err = run(capsys, "fit", swept, "--observable", "eviction_rate_layer", "--skip-damaged")
    assert status == 0
    assert path.name in err
    status, _, err = run(capsys, *SMALL, "--replicates", 12, "--out", swept, "--skip-damaged")
    assert status == 0
    assert "computed again" in err
    assert len(load_sweep(swept).cells) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep", "--out", "x", "--n-tokens", "y"], ["--n-tokens", "'y'"]),
        (["sweep", "--n-tokens", "64"], ["--out"]),
        (["sweep", "--out", "no/such"], ["no"]),
        (["sweep", "--out", "x", "--policy", "best"], ["best", "topk"]),
        (["sweep", "--out", "x", "--policy", "pyramid", "--set", "window=4"], ["not nested", "ratios"]),
        (["sweep", "--out", "x", "--together", "n-tokens"], ["n_tokens 0"]),
        (["sweep", "--out", "x", "--dask", "nowhere"], ["'nowhere'", "local"]),
        (["sweep", "--out", "x", "--workers", "0"], ["workers", "0"]),
        (["fit", "nowhere", "--observable", "ger"], ["'nowhere'", "not a sweep"]),
        (["fit", ".", "--observable", "ger"], ["not a sweep"]),
        (["fit", "swept", "--observable", "gerr"], ["'gerr'", "ger_layer"]),
        (["fit", "swept", "--observable", "ger", "--method", "guess"], ["'guess'", "collapse"]),
        (["fit", "swept", "--observable", "ger", "--scale", "N"], ["'N'", "L/ln n"]),
        (["fit", "swept", "--observable", "ger", "--scale", "L"], ["clashing", "n_tokens takes 32, 64, 128"]),
        (
            ["fit", "swept", "--observable", "ger", "--where", "n_layers=9"],
            ["n_layers = 9", "choose from: 3"],
        ),
        (
            ["fit", "swept", "--observable", "ger", "--where", "n_tokens=64", "--method", "collapse"],
            ["2 sizes, got 1"],
        ),
        (["fit", "swept", "--observable", "ger", "--from", "0.1", "--to", "0.3"], ["all curves are equal"]),
        (["fit", "swept", "--observable", "ger", "--from", "0.5", "--to", "0.3"], ["rise"]),
        (["fit", "swept", "--observable", "ger", "--plot", "a.xyz"], ["xyz", "svg"]),
        (["replay", "nothing.npz"], ["nothing.npz"]),
        (["replay", "thesis.txt"], ["thesis.txt", "not a cell file"]),
    ],
)
def test_bad_input_is_one_plain_line_and_status_2(capsys, swept, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis.txt").write_text("once upon a time")
    status, out, err = run(capsys, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_a_scheduler_that_does_not_answer_is_bad_input(capsys, tmp_path):
    pytest.importorskip("distributed")
    status, out, err = run(capsys, *SMALL, "--out", tmp_path / "s", "--dask", "tcp://127.0.0.1:9")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "no dask scheduler answers at 'tcp://127.0.0.1:9'" in err
    assert "Traceback" not in err


def test_help_names_the_commands_and_loads_nothing_heavy():
    code = (
        "import sys; from routegraph.cli.main import main\n"
        "try: main(['sweep', '--help'])\n"
        "except SystemExit as e: assert not e.code\n"
        "assert not {'numpy', 'numba', 'scipy', 'distributed', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--together" in done.stdout
