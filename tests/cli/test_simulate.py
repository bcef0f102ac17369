import json
import os
import subprocess
import sys

import pytest

from routegraph import simulate
from tests.helpers.commands import run

SMALL = ["simulate", "--n-tokens", "64", "--n-layers", "3", "--replicates", "4"]


def test_json_is_the_python_result_and_nothing_else(capsys):
    status, out, err = run(capsys, *SMALL, "--ratio", 0.5, "--ratio", 0.9, "--json")
    assert (status, err) == (0, "")
    expected = simulate(64, [0.5, 0.9], n_layers=3, replicates=4).to_dict()
    assert json.loads(out) == json.loads(json.dumps(expected))
    assert list(expected) == ["version", "seed", "parameters", "definitions", "results"]


def test_the_table_says_what_was_asked_and_what_it_means(capsys):
    status, out, _ = run(capsys, *SMALL, "--ratio", 0.5, "--seed", 3)
    assert status == 0
    for part in ("64 cached tokens", "ger_layer", "theory", "Found", "columns", "seed 3", "±"):
        assert part in out
    assert out.startswith("Found\n- Retention at ratio 0.5: "), "the answer stands first"
    assert "< 0.089" in out  # none of 4 * 8 answer tokens: 1 - .05^(1/32)


def test_words_fit_one_of_everything(capsys):
    """Red before: "all 1 heads", "all 1 of them", "reads 1 key(s)", and a table twice of a ratio given twice."""
    one = ["--n-layers", "1", "--n-heads", "1", "--n-answers", "1", "--replicates", "2", "--policy", "topk"]
    status, out, _ = run(capsys, "simulate", "--n-tokens", "64", *one, "--ratio", 0.5, "--ratio", 0.5)
    assert status == 0
    told = " ".join(out.split())
    assert "gone from the only head" in told
    assert "1 answer token is drawn" in told
    assert "a model of 1 layer x 1 KV head" in told
    assert "Real heads agree" not in told
    assert not [bad for bad in ("all 1 ", "(s)", "1 slots", "1 tokens") if bad in told]
    assert told.count("ratio 0.5, keep 32") == 1


def test_half_that_is_in_reach_at_every_ratio_is_said_so(capsys):
    few = ["simulate", "--n-tokens", "64", "--degree", "4", "--replicates", "2", "--policy", "pyramid"]
    out = run(capsys, *few, "--ratio", 0.1, "--ratio", 0.2)[1]
    assert "Half of the context is in reach, or out of it" not in out


def test_plot_and_out_are_written_whole(capsys, tmp_path):
    figure, document = tmp_path / "curve.svg", tmp_path / "result.json"
    status, out, err = run(capsys, *SMALL, "--plot", figure, "--out", document, "--json")
    assert status == 0
    assert json.loads(document.read_text()) == json.loads(out)
    assert figure.read_text().rstrip().endswith("</svg>")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.svg", "result.json"]
    assert "wrote" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ratio", "abc"], ["--ratio", "'abc'"]),
        (["--ratio", "1.2"], ["[0, 1)", "1.2"]),
        (["--ratio", "nan"], ["nan"]),
        (["--n-tokens", "x"], ["--n-tokens", "'x'"]),
        (["--n-tokens", "4"], ["n_answers", "8"]),
        (["--ensemble", "mesh"], ["mesh", "uniform"]),
        (["--policy", "best"], ["best", "topk"]),
        (["--prune", "rows"], ["rows", "decode"]),
        (["--set", "window"], ["NAME=VALUE", "'window'"]),
        (["--set", "window=3"], ["'window'"]),
        (["--plot", "figure.xyz"], ["xyz", "svg"]),
        (["--out", "no/such/folder.json"], ["no/such"]),
        (["--frobnicate"], ["--frobnicate"]),
    ],
)
def test_bad_input_is_one_plain_line_and_status_2(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, "simulate", *arguments)
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_status_1_and_leaves_nothing(capsys, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "result.json")

    monkeypatch.setattr("os.fsync", full)
    status, out, err = run(capsys, *SMALL, "--out", tmp_path / "result.json", "--json")
    assert (status, out) == (1, "")
    assert "No space left on device" in err
    assert list(tmp_path.iterdir()) == []


def test_help_loads_nothing_heavy_and_names_the_commands():
    code = (
        "import sys; from routegraph.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as e: assert not e.code\n"
        "heavy = {'numpy', 'numba', 'torch', 'transformers', 'kvpress', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "simulate" in done.stdout


def test_unknown_command_is_named(capsys):
    status, _, err = run(capsys, "simulat")
    assert status == 2
    assert "simulat" in err


def test_every_policy_reads_well(capsys):
    for policy in ("pyramid", "snapkv", "bernoulli", "adakv"):
        extra = ["--set", "window=8"] if policy in ("pyramid", "snapkv") else []
        status, out, _ = run(capsys, *SMALL, "--ratio", 0.5, "--ratio", 0.9, "--policy", policy, *extra)
        assert status == 0
        assert "Found" in out


def test_profiles_and_measures_are_shown(capsys):
    status, out, _ = run(
        capsys, *SMALL, "--profile", "qwen", "--measure", "rollout", "--measure", "consensus"
    )
    assert status == 0
    assert "depth profile 'qwen'" in " ".join(out.split())
    assert "rollout" in out
    status, out, err = run(capsys, *SMALL, "--measure", "luck")
    assert (status, out) == (2, "")
    assert "'luck'" in err


def test_the_first_run_on_a_machine_says_that_it_compiles(tmp_path):
    program = (
        "import numpy as np\n"
        "from routegraph.kernels.stream import tally\n"
        "from routegraph.cli.terminal import compiling\n"
        "print(compiling())\n"
        "tally(np.zeros(3, np.uint16), np.zeros(4, np.int64))\n"
        "print(compiling())\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "compiling, once: a few seconds\n\n"


def test_budgets_of_rows_are_ratios(capsys):
    status, out, _ = run(capsys, *SMALL, "--keep", 16, "--keep", 1000)
    assert status == 0
    assert "ratio 0.75, keep 16" in out
    assert "ratio 0, keep 64" in out
    asked, given = (run(capsys, *SMALL, *more, "--json")[1] for more in (("--keep", 16), ("--ratio", 0.75)))
    assert asked == given
    for more, words in (
        (("--keep", 16, "--ratio", 0.5), "not both"),
        (("--keep", 0), "keep must be a whole number"),
    ):
        status, out, err = run(capsys, *SMALL, *more)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert words in err
