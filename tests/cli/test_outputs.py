"""No command writes over what it reads."""

import pytest

from tests.helpers.commands import run

#: Commands that read READ, a file that is there (a text that none of them understands), and write.
COMMANDS = [
    "compare READ --out OUT",
    "compare READ --plot OUT",
    "compare TRACE --measured READ --out OUT",
    "report READ --out OUT",
    "export READ --to OUT",
    "extract MODEL --prompts READ --out OUT",
    "extract MODEL --prompts bundled --press READ:Press --out OUT",
    "inspect READ --plot OUT",
    "claims DIR --trace READ --out OUT",
    "probe MODEL --task READ --out OUT",
    "certify MODEL --prompts READ --into DIR --out OUT",
    "certify MODEL --prompts READ --into DIR --plot OUT",
    "audit READ --html OUT",
    "noise MODEL --task READ --out OUT",
    "diagram DIR --noise READ --out OUT",
    "diagram DIR --noise READ --plot OUT",
    "predict MODEL --task READ --out DIR --plot OUT",
    "measure MODEL --task READ --out DIR --plot OUT",
    "simulate --load READ --out OUT",
    "task base --load READ --out OUT",
    "fit READ --observable ger --out OUT",
]


@pytest.mark.parametrize("line", COMMANDS)
def test_an_output_that_is_read_is_refused(tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    read, out = tmp_path / "read.pdf", tmp_path / "link.pdf"
    read.write_text("precious")
    out.symlink_to(read)
    names = {"READ": "read.pdf", "READ:Press": "read.pdf:Press", "OUT": str(out), "MODEL": "llama-tiny"}
    status, shown, said = run(capsys, *(names.get(word, word) for word in line.split()))
    assert (status, shown) == (2, "")
    assert said.count("\n") == 1
    assert f"{str(out)!r} is what is read, and would be lost; choose another file" in said
    assert read.read_text() == "precious"


@pytest.mark.parametrize("line", COMMANDS)
def test_a_name_of_five_thousand_letters_is_one_line(tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    name = "x" * 5000 + ".pdf"
    names = {"READ": name, "READ:Press": f"{name}:Press", "OUT": "out.pdf", "MODEL": "llama-tiny"}
    status, shown, said = run(capsys, *(names.get(word, word) for word in line.split()))
    assert (status, shown, said.count("\n")) == (2, "", 1)
    assert len(said) < 500
    assert not list(tmp_path.iterdir())


def test_a_file_to_write_with_such_a_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, shown, said = run(capsys, "simulate", "--out", "x" * 5000)
    assert (status, shown) == (2, "")
    assert said == f"error: File name too long: {'x' * 60}...{'x' * 60}\n"


def test_plot_and_out_are_two_files(tmp_path, capsys):
    path = tmp_path / "one.pdf"
    status, shown, said = run(capsys, "simulate", "--plot", path, "--out", path)
    assert (status, shown) == (2, "")
    assert said == f"error: --out and --plot both name {str(path)!r}; choose two files\n"
    assert not path.exists()
