"""The command line, run in this process."""

import pytest

from routegraph.cli.main import main


def run(capsys, *arguments):
    """Run one command and return its status, and what it wrote to stdout and stderr."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err
