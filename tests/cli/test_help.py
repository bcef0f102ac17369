"""What a stranger sees first: help and the list of models are whole at 80 columns."""

import pytest

from tests.helpers.commands import run


@pytest.mark.parametrize("group", [(), ("model",)])
def test_every_command_has_a_sentence_that_fits(capsys, monkeypatch, group):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = run(capsys, *group, "--help")
    assert status == 0
    lines = out.partition("Commands:\n")[2].splitlines()
    assert len(lines) >= 3
    assert all(line.endswith(".") and not line.endswith("...") for line in lines), out


def test_models_are_listed_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = run(capsys, "model", "list")
    assert status == 0
    assert "…" not in out
    for words in (
        "qwen2.5-coder-0.5b  qwen2",
        "Apache-2.0",
        "2533 MB",
        "- smollm2: SmolLM2-135M-Instruct (30 layers",
    ):
        assert words in out
