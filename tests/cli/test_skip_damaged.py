"""A damaged cell is named and stops every command that reads it, but not with --skip-damaged."""

import shutil

import pytest
import typer

from routegraph.cli.main import app
from tests.helpers.commands import run

ASKED = [
    "llama-tiny",
    "--task",
    "words_forward",
    "--n",
    2,
    "--policy",
    "topk",
    "--ratio",
    0.5,
    "--ratio",
    0.9,
]
SWEPT = [*(word for n in (32, 64, 128) for word in ("--n-tokens", n)), "--n-layers", 3, "--n-heads", 2]
#: What `certify` asks for to be sure of anything: so many items.
RISKED = ["--risk", 0.9, "--confidence", 0.5]
#: For every command: what it is called with, and whose cells it reads ("measured", "predicted", "swept").
COMMANDS = {
    "measure": (["measure", *ASKED, "--max-new-tokens", 2, "--out", "measured"], "measured"),
    "predict": (["predict", *ASKED, "--max-new-tokens", 2, "--out", "predicted"], "predicted"),
    "predict, beside": (
        ["predict", *ASKED, "--max-new-tokens", 2, "--out", "predicted", "--measured", "measured"],
        "measured",
    ),
    "certify": (["certify", "measured"], "measured"),
    "certify, with predict": (["certify", "measured", "--predict", "predicted"], "predicted"),
    "certify, asking": (
        [
            *[
                "certify",
                "llama-tiny",
                "--prompts",
                "words_forward",
                "--n",
                2,
                "--policy",
                "topk",
                "--tries",
                0,
            ],
            *["--ratio", 0.5, "--max-new-tokens", 2, "--into", "asked", *RISKED],
        ],
        "asked/measured",
    ),
    "certify, with predict, of measured": (["certify", "measured", "--predict", "predicted"], "measured"),
    "claims": (["claims", "measured"], "measured"),
    "inspect": (["inspect", "measured"], "measured"),
    "sweep": (["sweep", *SWEPT, "--replicates", 12, "--out", "swept"], "swept"),
    "fit": (["fit", "swept", "--observable", "eviction_rate_layer"], "swept"),
}
#: These keep cells, and work out again what is damaged; the others leave it out.
KEEPING = ("measure", "predict", "certify, asking", "sweep")


def test_every_command_with_the_flag_is_tried():
    flagged = {
        name
        for name, command in typer.main.get_command(app).commands.items()
        if any("--skip-damaged" in parameter.opts for parameter in command.params)
    }
    assert flagged == {name.partition(",")[0] for name in COMMANDS}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Folders of every kind, each written by its command."""
    from contextlib import chdir

    from routegraph.cli.main import main

    folder = tmp_path_factory.mktemp("whole")
    with chdir(folder):
        for name in KEEPING:
            with pytest.raises(SystemExit) as stop:
                main([str(word) for word in COMMANDS[name][0]])
            assert stop.value.code == 0, name
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_a_damaged_cell_stops_a_command_unless_it_is_told_to_skip_it(
    capsys, tmp_path, monkeypatch, written, name
):
    words, owner = COMMANDS[name]
    folder = tmp_path / "own"
    shutil.copytree(written, folder)
    monkeypatch.chdir(folder)
    status, whole, _ = run(capsys, *words)
    assert status == 0
    cell = min((folder / owner / "cells").iterdir())
    before = cell.read_bytes()
    cell.write_bytes(before[:-20])
    status, out, err = run(capsys, *words)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
    assert cell.name in err
    assert cell.read_bytes() == before[:-20]
    status, out, err = run(capsys, *words, "--skip-damaged")
    assert status == 0, err
    assert "Traceback" not in err
    assert cell.name in err
    if name in KEEPING:
        assert cell.read_bytes() == before
    else:
        assert cell.read_bytes() == before[:-20]
        assert out != whole or name == "fit"
