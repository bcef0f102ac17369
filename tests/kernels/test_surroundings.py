"""What numba needs of its surroundings, and what is said where it is not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import routegraph

ROOT = Path(routegraph.__file__).parent


def run(arguments, cwd, **environment):
    """A command with these variables and no cache folder of numba's but its own."""
    known = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    return subprocess.run(
        [sys.executable, "-B", *arguments],
        cwd=cwd,
        env={**known, "PYTHONPATH": str(ROOT.parent), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="nothing is compiled, and nothing kept"
)
def test_where_nothing_can_be_kept_it_is_compiled_anew_and_said_once(tmp_path):
    """Red before: a traceback that ends in "no locator available"."""
    shutil.copytree(
        ROOT, tmp_path / "routegraph", ignore=shutil.ignore_patterns("__pycache__", "shipped", "known")
    )
    for folder in ("kernels", "sim/ensembles"):  # not even root can make a folder of this name
        (tmp_path / "routegraph" / folder / "__pycache__").touch()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    program = (
        "import os; from routegraph.kernels.rng import uniform, stream; import routegraph.sim.ensembles\n"
        "print(os.listdir(os.environ['TMPDIR']))\n"
    )
    done = run(["-c", program], tmp_path, PYTHONPATH=str(tmp_path), HOME="/proc/none", TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['routegraph-numba-")
    assert done.stderr.count("kernels are compiled anew in every run") == 1
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("asked", ["0", "-1", "many", "1.5"])
def test_a_number_of_threads_that_is_none_is_one_sentence(tmp_path, asked):
    for command in (["simulate", "--n-tokens", "16"], ["list"]):
        done = run(["-m", "routegraph", *command], tmp_path, NUMBA_NUM_THREADS=asked)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"error: NUMBA_NUM_THREADS must be a whole number of at least 1, got '{asked}'; set or unset it\n"
        )
        if asked != "0":
            return
