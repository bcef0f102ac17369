"""What is given empty, as by a shell's variable that is not set, is refused and not taken for the default."""

import pytest
import typer

from routegraph.cli.main import app
from routegraph.cli.options import EMPTY
from tests.helpers.commands import run


def empty_calls():
    """Yield every command with one of its options given empty, and that option."""
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        inner = getattr(command, "commands", {"": command})
        for part, one in inner.items():
            for parameter in one.params:
                if parameter.name in EMPTY or getattr(parameter, "is_flag", False):
                    continue
                words = [word for word in (name, part) if word]
                option = parameter.opts[-1]
                yield [*words, f"{option}=" if option.startswith("--") else ""], option


@pytest.mark.parametrize(("words", "option"), list(empty_calls()), ids=lambda part: " ".join(part))
def test_empty_values_are_refused(tmp_path, monkeypatch, capsys, words, option):
    monkeypatch.chdir(tmp_path)
    status, shown, said = run(capsys, *words)
    assert (status, shown, said.count("\n")) == (2, "", 1)
    assert "must not be empty" in said
    assert option.startswith("--") <= (option in said)
    assert not list(tmp_path.iterdir())


def test_an_empty_system_prompt_says_something(capsys):
    status, _, said = run(capsys, "prompts", "missing.jsonl", "--system=")
    assert "must not be empty" not in said
    assert status == 2
