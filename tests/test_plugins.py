"""What a user's file or an installed package registers is known to every command, and to every worker."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from routegraph import plugins, policies
from routegraph.cli.main import COMMANDS, main
from routegraph.registry import Registry
from routegraph.sim.observables import observables
from routegraph.validate.measure.cells import open_folder
from routegraph.validate.plan import Plan

MINE = '''
import numpy as np
from routegraph.policies import policy
from routegraph.sim.observables import observable
from routegraph.survival import Survival, eviction_ratios

@policy("every_third", scores=None)
def every_third(scores, *, n_context, step=3):
    """Keep every third row to the last."""
    order = np.argsort(np.arange(n_context) % step == 0, kind="stable")
    drop = np.empty(n_context, dtype=int)
    drop[order] = np.arange(1, n_context + 1)
    return Survival(np.broadcast_to(drop, scores.shape))

@observable("reach_none")
def reach_none(sample, levels):
    """Whether no answer token is reached."""
    return (sample.answer_reach[:, None, :] < np.asarray(levels)[:, None]).all(axis=2).astype(float)

print("loading")
'''
SMALL = ["--n-tokens", "30", "--n-layers", "3", "--n-heads", "2", "--replicates", "4"]
ROOT = Path(__file__).parent.parent


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def routegraph(*arguments, **environment):
    """Run a command in a process of its own."""
    import os

    return subprocess.run(
        [sys.executable, "-m", "routegraph", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


class TestFiles:
    def test_what_a_file_registers_is_known(self, mine, restored):
        assert plugins.load(mine) == ["policy every_third", "observable reach_none"]
        assert plugins.load(mine) == [], "once is enough"
        assert policies.policies.origin("every_third") == str(mine)
        assert policies.policies.origin("topk") == "routegraph"
        survival = policies.apply("every_third", np.zeros((1, 1, 9)))
        assert survival.alive(0.6).nonzero()[2].tolist() == [0, 3, 6]

    def test_two_files_of_one_name_are_two(self, mine, tmp_path, restored):
        plugins.load(mine)
        (tmp_path / "other").mkdir()
        other = tmp_path / "other" / "mine.py"
        other.write_text(MINE)
        with pytest.raises(ValueError, match="policy 'every_third' is already registered"):
            plugins.load(other)

    def test_every_command_takes_it(self, capsys):
        for name in COMMANDS:
            with pytest.raises(SystemExit):
                main([name, "--help"])
            assert "--load FILE.py" in capsys.readouterr().out, name

    def test_a_command_knows_it(self, mine):
        done = routegraph(
            "simulate", *SMALL, "--policy", "every_third", "--ratio", 0.6, "--load", mine, "--json"
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.startswith("loading"), "what a file prints is no part of the result"
        found = json.loads(done.stdout)
        assert found["parameters"]["policy"] == "every_third"
        listed = json.loads(routegraph("list", "--load", mine, "--json").stdout)
        assert listed["policy"]["every_third"] == {
            "summary": "Keep every third row to the last.",
            "parameters": {"step": 3},
            "from": str(mine),
        }
        assert listed["policy"]["topk"]["from"] == "routegraph"
        assert str(mine) in "".join(routegraph("list", "--load", mine, COLUMNS="200").stdout.split("\n"))

    def test_the_example_is_as_it_says(self):
        example = "examples/bring_your_own.py"
        done = routegraph(
            *("simulate", *SMALL, "--load", example, "--policy", "lost_in_the_middle", "--set", "handicap=2"),
            *("--ensemble", "mirror", "--measure", "surviving_reads", "--json"),
        )
        assert done.returncode == 0, done.stderr
        assert "surviving_reads" in json.loads(done.stdout)["results"][0]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (None, "no plug-in file 'bad.py'"),
            (
                "import nothing_of_the_kind\n",
                "ModuleNotFoundError: No module named 'nothing_of_the_kind' (line 1)",
            ),
            ("x = 1\n\ny = x +\n", "SyntaxError: invalid syntax (line 3)"),
            ("def f():\n    return 1 / 0\nf()\n", "ZeroDivisionError: division by zero (line 2)"),
            ("raise SystemExit\n", "SystemExit: SystemExit (line 1)"),
            ("x = 1\n", "it registers nothing; decorate a function with @policy"),
            (
                "from routegraph import policies, sim\nimport routegraph.sim.ensembles\n",
                "it registers nothing",
            ),
            (MINE.replace("every_third", "topk"), "policy 'topk' is already registered"),
            (b"\xff\xfe\x00", "it is no text"),
        ],
    )
    def test_bad_files_are_one_plain_line(self, tmp_path, text, said):
        if text is not None:
            (tmp_path / "bad.py").write_bytes(text if isinstance(text, bytes) else text.encode())
        import os

        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "routegraph",
                "simulate",
                *SMALL,
                "--load",
                "bad.py",
                "--out",
                "result.json",
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert said in done.stderr
        assert "bad.py" in done.stderr
        assert not (tmp_path / "result.json").exists()


class TestWorkers:
    @pytest.mark.parametrize(
        "how", [["--workers", "2", "--processes"], ["--workers", "2", "--dask", "local"]]
    )
    def test_know_what_was_loaded(self, mine, tmp_path, how):
        arguments = ["sweep", *SMALL, "--n-tokens", "40", "--policy", "every_third", "--load", mine]
        for folder, more in (("here", []), ("there", how)):
            done = routegraph(*arguments, "--out", tmp_path / folder, *more)
            assert done.returncode == 0, done.stderr
        here, there = (
            {p.name: p.read_bytes() for p in (tmp_path / f / "cells").iterdir()} for f in ("here", "there")
        )
        assert len(here) == 2
        assert here == there
        fitted = routegraph("fit", tmp_path / "there", "--observable", "reach_none", "--load", mine, "--json")
        assert json.loads(fitted.stdout)["observable"] == "reach_none"

    def test_load_from_the_text_alone(self, mine, restored):
        plugins.load(mine)
        sources = plugins.loaded()
        code = (
            "import pickle, sys; from routegraph import plugins, policies\n"
            "plugins.ensure(pickle.loads(sys.stdin.buffer.read()))\n"
            "print(policies.policies.origin('every_third'))"
        )
        import pickle

        mine.unlink()
        done = subprocess.run(
            [sys.executable, "-c", code], input=pickle.dumps(sources), capture_output=True, cwd=ROOT
        )
        assert done.stdout.decode().strip() == str(mine), done.stderr


class TestAChangedFile:
    """Cells keep what they were computed with: another text of the same file is another run."""

    def refused(self, done, *said):
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert [line for line in said if line not in done.stderr] == []
        assert "Traceback" not in done.stderr

    def test_does_not_continue_a_sweep(self, mine, tmp_path):
        asked = [*("sweep", *SMALL, "--policy", "every_third", "--load", mine), "--out", tmp_path / "out"]
        assert routegraph(*asked).returncode == 0
        cells = {path: path.read_bytes() for path in (tmp_path / "out" / "cells").iterdir()}
        assert routegraph(*asked).returncode == 0, "the same text goes on"
        mine.write_text(MINE.replace("% step == 0", "% step == 1"))
        self.refused(routegraph(*asked), "another text of 'mine.py'", "choose a new folder")
        assert {path: path.read_bytes() for path in (tmp_path / "out" / "cells").iterdir()} == cells
        own = [*("sweep", *SMALL, "--policy", "topk"), "--out", tmp_path / "out"]
        assert routegraph(*own).returncode == 0, "a policy of ours does not depend on it"

    def test_does_not_continue_a_measurement(self, mine, restored, monkeypatch, tmp_path):
        monkeypatch.setattr("routegraph.validate.models.load.fingerprint", lambda model: "weights")
        model = SimpleNamespace(name="a model", tokenizer=None)
        plugins.load(mine)
        first = Plan(("every_third",), (0.5,)).settings(model)
        assert list(first["plugins"]) == ["mine.py"]
        assert Plan(("every_third",), (0.5,)).settings(model) == first
        policies.policies._functions.pop("every_third")
        observables._functions.pop("reach_none")
        mine.write_text(MINE.replace("% step == 0", "% step == 1"))
        plugins.load(mine)
        again = Plan(("every_third",), (0.5,)).settings(model)
        assert again["plugins"] != first["plugins"]
        open_folder(tmp_path / "out", first)
        open_folder(tmp_path / "out", first)
        with pytest.raises(
            ValueError, match=r"was measured with another text of 'mine.py'; choose another folder"
        ):
            open_folder(tmp_path / "out", again)
        assert "plugins" not in Plan(("topk",), (0.5,)).settings(model)

    def test_a_name_of_ones_own_needs_its_file(self, mine, tmp_path):
        asked = ["sweep", *SMALL, "--policy", "every_third", "--out", tmp_path / "out"]
        assert routegraph(*asked, "--load", mine).returncode == 0
        self.refused(
            routegraph("fit", tmp_path / "out", "--observable", "ger"),
            "unknown policy 'every_third'",
            "--load FILE.py",
        )


class TestInstalledPackages:
    def package(self, folder, text, value="their_policies"):
        (folder / "their_policies.py").write_text(text)
        told = folder / "theirs-1.2.dist-info"
        told.mkdir()
        (told / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n")
        (told / "entry_points.txt").write_text(f"[routegraph.plugins]\ntheirs = {value}\n")
        return {"PYTHONPATH": f"{folder}:{ROOT}"}

    def test_are_found_by_their_entry_point(self, tmp_path):
        path = self.package(tmp_path, MINE.replace('print("loading")', ""))
        listed = json.loads(routegraph("list", "--json", **path).stdout)
        assert listed["policy"]["every_third"]["from"] == "theirs 1.2"
        assert listed["policy"]["topk"]["from"] == "routegraph"
        done = routegraph("simulate", *SMALL, "--policy", "every_third", "--json", **path)
        assert json.loads(done.stdout)["parameters"]["policy"] == "every_third"
        workers = ["--processes", "--workers", "2", "--out", tmp_path / "sweep"]
        done = routegraph("sweep", *SMALL, "--policy", "every_third", *workers, **path)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("raise RuntimeError('broken')", "cannot be loaded: broken"),
            (MINE.replace("every_third", "topk"), "policy 'topk' is already registered"),
        ],
    )
    def test_a_broken_one_is_named_and_hurts_nobody_who_does_not_ask(self, tmp_path, text, said):
        path = self.package(tmp_path, text)
        assert routegraph("simulate", *SMALL, **path).returncode == 0
        done = routegraph("list", **path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1 + done.stderr.count("loading\n")
        assert "plug-in 'theirs' of package theirs 1.2" in done.stderr
        assert said in done.stderr


def test_an_origin_is_told_by_the_module_otherwise():
    registry = Registry("colour")
    registry("red")(test_an_origin_is_told_by_the_module_otherwise)
    assert registry.origin("red") == __name__
    with pytest.raises(ValueError, match="unknown colour 'blue'"):
        registry.origin("blue")
