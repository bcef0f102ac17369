"""Plumbing of the command line: consoles, progress, one JSON document, one plain line for an error."""

from __future__ import annotations

import ast
import codecs
import errno
import io
import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Return NAME=VALUE pairs as a dictionary; values are Python literals, or text."""
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise ValueError(f"a setting is NAME=VALUE, got {setting!r}")
        if name in parsed:
            raise ValueError(f"{name!r} is set twice, to {parsed[name]!r} and to {value!r}; give it once")
        try:
            parsed[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            parsed[name] = value
    return parsed


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")


def check_outputs(plot: Path | None, out: Path | None) -> None:
    """Refuse, before anything is computed, files that could not be written."""
    from routegraph.files import check_writable
    from routegraph.plot import check_figure_path

    if plot is not None:
        check_figure_path(plot)
    if out is not None:
        check_writable(out)


def hand_over(document: Any, as_json: bool, out: Path | None) -> bool:
    """Write a result to `out` and, if asked, to stdout; returns whether tables are wanted instead."""
    from routegraph.files import write_json

    if out is not None:
        write_json(out, document)
        note(f"wrote {out}")
    if as_json:
        print_json(document)
    return not as_json


def draw(figure: Figure, plot: Path) -> None:
    """Save a figure and say so."""
    from routegraph.plot import save

    save(figure, plot)
    note(f"drew {plot}")


def console(stderr: bool = False) -> Console:
    """Return a console on stdout (results) or stderr (everything else)."""
    from rich.console import Console

    class Ours(Console):
        """Leaves it to `run` what becomes of a reader that has gone; rich would exit with status 1."""

        def on_broken_pipe(self) -> None:
            raise

    # What is printed is text: no [markup], no :emoji:.
    return Ours(stderr=stderr, soft_wrap=False, markup=False, emoji=False, highlight=False)


def note(text: str) -> None:
    """Say something on stderr, if anybody listens."""
    from routegraph.text import written

    with suppress(BrokenPipeError):
        sys.stderr.write("".join(f"{written(line)}\n" for line in text.split("\n")))


def compiling() -> str:
    """Return what to say while kernels are compiled for the first time on this machine; nothing if they are."""
    from routegraph.kernels.stream import tally

    folder = getattr(getattr(tally, "stats", None), "cache_path", None)  # None: numba does not compile at all
    if folder is None or any(Path(folder).glob("stream.tally-*.nbi")):
        return ""
    return "compiling, once: a few seconds"


def write_anywhere() -> None:
    """Let a terminal that lacks a character show another one: what was computed is never lost to that."""

    def replaced(error: UnicodeError) -> tuple[str, int]:
        from routegraph.text import written

        if not isinstance(error, UnicodeEncodeError):
            raise error
        return written(error.object[error.start : error.end], error.encoding), error.end

    codecs.register_error("routegraph.written", replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="routegraph.written")


def open_standard() -> None:
    """Open what the shell has closed (``>&-``), to nowhere: else the next file that is opened is standard output."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


#: What systems say of a path that can be none.
NO_NAME = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EILSEQ, errno.EINVAL)
#: Letters of a word, as of a path, that an error shows whole.
LONGEST = 1000

#: Exit status of a command that was interrupted (128 + SIGINT), typer's as well.
INTERRUPTED = 130


@contextmanager
def stopped_quietly() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does, with what is half done tidied up; yields those that came."""
    came: list[int] = []

    def stop(number: int, _frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Not where somebody (nohup, a server that runs this in a thread) wants it otherwise.
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            with suppress(ValueError):
                before[number] = signal.signal(number, stop)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(app: typer.Typer, arguments: list[str] | None) -> None:
    """Run an app and exit, with one plain line on stderr where it is not done.

    Exit status 0 done, 2 bad input, 1 failure, 130 interrupted, 143 terminated.
    """
    with stopped_quietly() as came:
        status = _run(app, arguments, came)
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BrokenPipeError:  # else the interpreter tries again at its end, and complains
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)


def _run(app: typer.Typer, arguments: list[str] | None, came: list[int]) -> int:
    """Run an app and return its exit status; came: signals that ended it."""
    open_standard()
    command = typer.main.get_command(app)
    write_anywhere()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = command.main(args=arguments, prog_name="routegraph", standalone_mode=False)
        sys.stdout.flush()
        if status == INTERRUPTED:  # typer has caught it
            raise KeyboardInterrupt
    except (typer.Abort, KeyboardInterrupt):
        word = "terminated" if came else "interrupted"
        status = fail(
            f"{word}; sweep, measure, predict, extract and model train go on where they were",
            128 + came[0] if came else INTERRUPTED,
        )
    except BrokenPipeError:  # whoever reads has seen enough
        status = 0
    except SystemExit as stop:
        if not isinstance(stop.__context__, BrokenPipeError):  # typer would exit with status 1
            raise
        status = 0
    except ValueError as error:
        status = fail(str(error), 2)
    except MemoryError as error:
        status = fail(f"not enough memory: {error}", 1)
    except OSError as error:
        named = f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error)
        status = fail(named, 2 if error.errno in NO_NAME else 1)
    except Exception as error:
        # Usage errors; their class has no public name, but all of them can format themselves.
        if not hasattr(error, "format_message"):
            raise
        text = error.format_message()
        if text.startswith("Usage:"):
            note(text)
            status = 2
        else:
            status = fail(text, 2)
    return status if isinstance(status, int) else 0


def _show_warning(message: Warning | str, category: type[Warning] | None = None, *_: Any, **__: Any) -> None:
    """Show a warning as one plain line, without the line of code that raised it; those for developers are not shown."""
    if category is not None and issubclass(category, DeprecationWarning | PendingDeprecationWarning):
        return
    note("warning: " + " ".join(str(message).split()))


def fail(message: str, status: int) -> int:
    """Print one plain line on stderr and return the exit status; a name that is a page long lacks its middle."""
    words = (word if len(word) <= LONGEST else f"{word[:60]}...{word[-60:]}" for word in message.split())
    note("error: " + " ".join(words))
    return status
