"""Seeded generators of prompts, by name in `tasks`."""

from routegraph.validate.tasks import english
from routegraph.validate.tasks.registry import load_task, task, tasks

__all__ = ["english", "load_task", "task", "tasks"]
