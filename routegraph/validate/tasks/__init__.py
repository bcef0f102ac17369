"""Seeded generators of prompts, by name in `tasks`: in plain English, and in the small language of trained models."""

from collections.abc import Callable

from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.tasks import english, long_replies, words
from routegraph.validate.tasks.registry import load_task, load_tasks, task, tasks

__all__ = ["english", "load_task", "load_tasks", "long_replies", "task", "tasks", "words"]


def _word_task(name: str) -> Callable[..., list[Prompt]]:
    def made(n: int, *, seed: int = 0, length: int | None = None) -> list[Prompt]:
        return words.prompts(name, n, seed, length)

    made.__doc__ = f"For models that routegraph trains: {words.TASKS[name].summary}."
    return made


for _name in words.TASKS:
    tasks(f"words_{_name}")(_word_task(_name))
