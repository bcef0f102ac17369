"""Replies graded, as they come and again: by any grader, from what a cell keeps, without the model."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from routegraph import plugins
from routegraph.validate.graders import DEFAULT, Grader, grader_setting, graders
from routegraph.validate.measure.cells import Cells, unsealed
from routegraph.validate.measure.result import Measured, from_cells
from routegraph.validate.measure.schema import measured_cell
from routegraph.validate.prompts.fields import golds_of
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.prompts.tokens import unfit
from routegraph.validate.prompts.verdict import grader_of, verdict


def told(prompt: Prompt) -> dict[str, Any]:
    """Return what a cell keeps of a prompt so that replies can be graded again; the later fields where they are set."""
    kept = {"answers": list(prompt.answers), "choices": list(prompt.choices), "grader": prompt.grader}
    return {
        "question": prompt.question,
        "answer": prompt.answer,
        "answerable": prompt.answerable,
        "tags": list(prompt.tags),
        **{name: value for name, value in kept.items() if value},
    }


def graded(prompt: Mapping[str, Any], replies: Sequence[str], named: str = "") -> dict[str, Any]:
    """Return the part of a cell that a grader makes.

    Parameters
    ----------
    prompt : mapping
        As the cell keeps it.
    replies : sequence of str
    named : str
        Grader; empty: the prompt's own, else the default one.

    Returns
    -------
    dict
        "grader", "right", "abstained"; "scores", where one is neither 0 nor 1.

    Raises
    ------
    ValueError
        If there is no such grader, or it cannot match replies by the prompt's answers.
    """
    grader = Grader.named(named or prompt.get("grader") or DEFAULT)
    golds = golds_of(prompt["answer"], prompt.get("answers", ()))
    choices = tuple(prompt.get("choices", ()))
    # Replies repeat from ratio to ratio.
    found = {
        reply: verdict(grader, reply, golds, choices, bool(prompt["answerable"]))
        for reply in dict.fromkeys(replies)
    }
    scores = [found[reply].score for reply in replies]
    return {
        "grader": grader.name,
        "right": [int(found[reply].right) for reply in replies],
        "abstained": [int(found[reply].abstained) for reply in replies],
        **({} if set(scores) <= {0.0, 1.0} else {"scores": [float(f"{score:.7g}") for score in scores]}),
    }


def check_gradable(prompt: Prompt, named: str = "") -> None:
    """Raise UnfitPromptError where a prompt's grader is unknown or cannot match replies by its answers."""
    with unfit(f"prompt {prompt.id!r}: "):
        grader = grader_of(prompt, named)
        if prompt.answerable:
            grader.score("", prompt.golds, prompt.choices)


def regrade(
    cells: str | os.PathLike[str], grader: str = "", out: str | os.PathLike[str] | None = None
) -> Measured:
    """Grade the replies of a measurement again, without the model; everything else stays as it was measured.

    Parameters
    ----------
    cells : path
        Folder that `measure` wrote, in this or an earlier version; it is left alone.
    grader : str
        Name of a grader, see `routegraph.validate.graders`; empty: each prompt's own, else the default one.
    out : path, optional
        Folder for the cells graded again, made if missing; in memory only by default.

    Raises
    ------
    ValueError
        If `cells` is no such folder, there is no such grader, or it cannot match replies by an answer; if `out` is
        `cells` or holds something else.
    """
    if grader:
        Grader.named(grader)
    if out is not None and os.path.realpath(out) == os.path.realpath(cells):
        raise ValueError(f"cells graded again go into another folder than {os.fspath(cells)!r}")
    source, started = Measured.load(cells), time.time()
    loaded = plugins.fingerprints([graders[grader.partition(":")[0]]] if grader else [])
    files = {**source.settings.get("plugins", {}), **loaded}
    settings = {
        **source.settings,
        **({"plugins": files} if files else {}),
        "grader": grader_setting(grader),
    }
    made = []
    for cell in source.cells:
        before = {name: value for name, value in unsealed(cell).items() if name != "scores"}
        try:
            made.append({**before, **graded(cell["prompt"], cell["replies"], grader)})
        except ValueError as error:
            raise ValueError(f"prompt {cell['prompt']['id']!r}: {error}") from None
    kept = Cells.open(out, settings, holds=measured_cell)
    sealed = [kept.find(name) or kept.keep(name, one) for name, one in zip(source.names, made, strict=True)]
    kept.note_run(len(made), 0, time.time() - started)
    return from_cells(settings, sealed, source.names)
