"""Which tasks there are, and prompts of a task by its name, or from a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from routegraph.options import MOST, check_whole
from routegraph.registry import Registry
from routegraph.validate.prompts.prompt import BUNDLED, Prompt, read_prompts

#: Tasks by name: functions ``(n, *, seed=0, length=..., ...) -> list of Prompt``. The item at place i depends on
#: the parameters and i alone, so that the first prompts of a longer list are those of a shorter one.
tasks = task = Registry("task")

#: How long a text is, in whatever a length is given in.
Count = Callable[[str], float]


def load_task(
    name: str | os.PathLike[str],
    n: int | None = None,
    seed: int = 0,
    length: int | None = None,
    count: Count | None = None,
    **parameters: Any,
) -> list[Prompt]:
    """Return the prompts of a registered task, or those of a file of any format (`read_prompts`).

    Parameters
    ----------
    name : str or path
        A task, a file of prompts, or "bundled" for the prompts that come with the package.
    n : int, optional
        How many: 100 of a task by default, all of a file. A file that holds fewer gives what it holds.
    seed : int
        Of a task; the prompts of a file are what they are.
    length : int, optional
        Length of a context, as `count` tells it; by default the task's own.
    count : callable, optional
        ``count(text)``, such as the number of a tokenizer's tokens; by default 1.3 times the number of words.
    **parameters
        Further parameters of the task.

    Returns
    -------
    list of Prompt

    Raises
    ------
    ValueError
        If there is no such task and no such file; if a parameter is unknown or out of range, or is given with a
        file, which takes none; if the file is none of prompts.
    """
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if length is not None:
        parameters["length"] = length
    if count is not None:
        parameters["count"] = count
    if str(name) in tasks:
        for what, value, most in (("n", n, 10**6), ("length", length, 10**7)):
            if value is not None:
                check_whole(what, value, high=most)
        tasks.check_parameters(str(name), parameters)
        prompts: list[Prompt] = tasks[str(name)](100 if n is None else n, seed=seed, **parameters)
        return prompts
    if str(name) != BUNDLED and not Path(name).is_file():
        if Path(name).suffix or Path(name).name != str(name):
            raise ValueError(
                f"no prompts file {str(name)!r}; `routegraph list` shows the tasks that need none"
            )
        raise ValueError(
            f"unknown task {str(name)!r}; choose from: {', '.join(tasks)}, {BUNDLED}, or give a file of prompts"
        )
    if parameters:
        raise ValueError(
            f"prompts are read from {str(name)!r} as they are: it takes no {next(iter(parameters))}"
        )
    return list(islice(read_prompts(name), None if n is None else min(n, MOST)))


def load_tasks(
    names: Iterable[str | os.PathLike[str]], n: int | None = None, seed: int = 0, length: int | None = None
) -> list[Prompt]:
    """Return the prompts of several tasks or files, one after the other; arguments as of `load_task`."""
    return [prompt for name in names for prompt in load_task(name, n, seed, length)]
