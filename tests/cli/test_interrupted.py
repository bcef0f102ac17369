"""Ctrl-C ends a command with one plain line."""

import pytest
import typer

from routegraph.cli import terminal


@pytest.mark.parametrize("error", [KeyboardInterrupt, typer.Abort])
def test_one_line_and_status_130(error, capsys):
    app = typer.Typer()

    @app.command()
    def work() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        terminal.run(app, [])
    assert caught.value.code == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: interrupted; ")
    assert said.err.count("\n") == 1
