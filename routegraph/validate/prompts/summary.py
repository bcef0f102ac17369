"""What was understood of a prompts file, in figures and in words."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from routegraph._version import __version__
from routegraph.validate.prompts.fields import Prompt
from routegraph.validate.prompts.formats import PromptsFile
from routegraph.validate.prompts.occurrences import occurrences

#: So much of a long text is shown.
_SHOWN = 300


def describe(
    read: PromptsFile, parameters: Mapping[str, Any], count: Callable[[str], int] | None = None
) -> dict[str, Any]:
    """Return what was understood of a file as a JSON-ready document.

    Parameters
    ----------
    read : PromptsFile
    parameters : mapping
        What was asked for; passed on.
    count : callable, optional
        ``count(text)``, the number of a tokenizer's tokens; by default words set apart by blanks are counted.

    Returns
    -------
    dict
        ``has`` counts prompts: with a question, with an answer, with evidence, and with answer spans, given or found
        (`occurrences`). ``lengths`` are those of the contexts, in ``unit``.
    """
    prompts = read.prompts
    lengths = [(count or _words)(prompt.context) for prompt in prompts]
    return {
        "version": __version__,
        "parameters": dict(parameters),
        "format": read.format,
        "container": read.container,
        "n": len(prompts),
        "skipped": [{"row": row, "why": why} for row, why in read.skipped],
        "has": {
            "question": sum(bool(prompt.question.strip()) for prompt in prompts),
            "answer": sum(bool(prompt.golds) for prompt in prompts),
            "evidence": sum(bool(prompt.evidence) for prompt in prompts),
            "answer_spans": sum(bool(prompt.answer_spans or occurrences(prompt)) for prompt in prompts),
        },
        "unanswerable": sum(not prompt.answerable for prompt in prompts),
        "graders": sorted({prompt.grader or "default" for prompt in prompts}),
        "lengths": {
            "min": min(lengths),
            "median": statistics.median(lengths),
            "max": max(lengths),
            "unit": "words" if count is None else "tokens",
        },
        "notes": list(read.notes),
        "first": prompts[0].to_dict(),
    }


def shown(prompt: Prompt) -> list[tuple[str, str]]:
    """Return the fields of a prompt that say something, long texts shortened in the middle."""
    fields = {
        "id": prompt.id,
        "task": prompt.task,
        "context": prompt.context,
        "question": prompt.question,
        "answer prefix": prompt.answer_prefix,
        "answer": " | ".join(prompt.golds) if prompt.answerable else "(unanswerable)",
        "choices": " | ".join(prompt.choices),
        "grader": prompt.grader,
    }
    return [(name, shortened(value)) for name, value in fields.items() if value]


def shortened(text: str, limit: int = _SHOWN) -> str:
    """Return a text on one line, its middle left out where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit // 2].rstrip()} ... {line[-limit // 2 :].lstrip()}"


def _words(text: str) -> int:
    return len(text.split())
