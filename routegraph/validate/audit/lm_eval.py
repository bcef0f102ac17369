"""Samples that lm-evaluation-harness logs: ``samples_TASK_DATE.jsonl`` beside ``results_DATE.json``.

Layout after https://github.com/EleutherAI/lm-evaluation-harness, lm_eval/loggers/evaluation_tracker.py. The harness
knows no presses: which one was used is read from the model's arguments, or from a folder named PRESS__RATIO or
no_press.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from routegraph.validate.audit.files import read_json, read_json_lines
from routegraph.validate.audit.runs import UNCOMPRESSED, Finding, Key, Reply, Run, Scope, keyed, printable

_SAMPLES = re.compile(r"samples_(?P<task>.+?)(?:_(?P<date>\d{4}-\d\d-\d\dT[^/]*))?\.jsonl")
_NAMED = re.compile(r"(?P<press>.+?)(?:__|@)(?P<ratio>[01]?\.\d+|0|1)")
#: Scores of a sample whose mean is the score of the task, and from where on they mean that the reply is right.
_MEANS = {"exact_match": 1.0, "acc": 1.0, "em": 1.0, "contains": 1.0, "f1": 0.5}


def is_samples(name: str) -> bool:
    """Return whether a file's name is that of logged samples."""
    return _SAMPLES.fullmatch(name) is not None


def read_lm_eval(folder: Path, files: Sequence[str], parts: Sequence[str], name: str) -> list[Run]:
    """Read the samples of one folder: a run for each press and ratio.

    Parameters
    ----------
    folder : Path
    files : sequence of str
        Names of the files of samples in it.
    parts : sequence of str
        Names of the folders from the audited one down to this one.
    name : str
        What the folder is called.

    Raises
    ------
    ValueError
        If a file is damaged, nothing says which press and ratio it is of, or two files of one task cannot be told
        apart.
    """
    made: dict[tuple[str, float, str], Run] = {}
    for file in sorted(files):
        found = _SAMPLES.fullmatch(file)
        if found is None:
            continue
        results = _results(folder, found["date"])
        task = printable(found["task"])
        press, ratio = _what(results, parts, folder / file)
        model = _model(results, parts)
        rows = _one_filter(read_json_lines(folder / file))
        replies = _replies(task, rows, folder / file)
        findings = _scores(name, task, rows, results)
        scope = Scope("lm-eval", "lm-eval", "", model)
        place = (press, ratio, model)
        if place in made:
            before = made[place]
            if any(key[0] == task for key in before.replies):
                raise ValueError(
                    f"{str(folder)!r} holds two files of samples of task {task!r} that cannot be told apart; give "
                    "each run a folder of its own, named PRESS__RATIO or no_press"
                )
            replies, findings = {**before.replies, **replies}, [*before.findings, *findings]
        made[place] = Run(name, scope, press, ratio, replies, findings=tuple(findings))
    if len(made) == 1:
        return list(made.values())
    return [
        Run(
            f"{name}: {run.press} at {run.ratio:g}",
            run.scope,
            run.press,
            run.ratio,
            run.replies,
            findings=run.findings,
        )
        for run in made.values()
    ]


def _results(folder: Path, date: str | None) -> Mapping[str, Any]:
    """Return the results file that was written with some samples; empty where there is none."""
    if date is None:
        return {}
    path = next(iter(sorted(folder.glob(f"*_{date}.json"))), None)
    document = {} if path is None else read_json(path)
    if not isinstance(document, dict):
        raise ValueError(f"{str(path)!r} is damaged: it holds no results")
    return document


def _arguments(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the model's arguments, which are text or an object."""
    config = results.get("config")
    told = config.get("model_args") if isinstance(config, dict) else None
    if isinstance(told, dict):
        return {str(key): str(value) for key, value in told.items()}
    pairs = (one.partition("=") for one in str(told or "").split(","))
    return {key.strip(): value.strip() for key, _, value in pairs if key.strip()}


def _what(results: Mapping[str, Any], parts: Sequence[str], path: Path) -> tuple[str, float]:
    """Return press and ratio: by the model's arguments, else by the nearest folder whose name tells."""
    arguments = _arguments(results)
    press = arguments.get("press_name", arguments.get("press", ""))
    told = arguments.get("compression_ratio", arguments.get("ratio", ""))
    if press.casefold() in UNCOMPRESSED:
        return "no_press", 0.0
    if press and told:
        try:
            ratio = float(told)
        except ValueError:
            ratio = math.nan
        if 0 <= ratio <= 1:
            return printable(press), ratio
    for part in reversed(parts):
        if part.casefold() in UNCOMPRESSED:
            return "no_press", 0.0
        if found := _NAMED.fullmatch(part):
            return printable(found["press"]), float(found["ratio"])
    raise ValueError(
        f"cannot tell which press and ratio {str(path)!r} is of; put it into a folder named PRESS__RATIO "
        "(snapkv__0.50), or no_press"
    )


def _model(results: Mapping[str, Any], parts: Sequence[str]) -> str:
    """Return the model's name: by the results, else the folder of the samples, where that names no press."""
    told = results.get("model_name") or _arguments(results).get("pretrained")
    if told:
        return printable(str(told))
    last = parts[-1] if len(parts) > 1 else ""
    named = last.casefold() in UNCOMPRESSED or _NAMED.fullmatch(last)
    return "model not named" if named or not last else printable(last)


def _one_filter(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the samples of the first filter: the harness logs every one once for each."""
    first = rows[0].get("filter")
    return [row for row in rows if row.get("filter") == first]


def _score(row: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the name of a sample's score and its value: the first of its metrics that lies in [0, 1]."""
    listed = row.get("metrics")
    for name in listed if isinstance(listed, list) else _MEANS:
        value = row.get(str(name))
        if isinstance(value, bool | int | float) and 0 <= value <= 1:
            return str(name), float(value)
    return None


def _replies(task: str, rows: Sequence[Mapping[str, Any]], path: Path) -> dict[Key, Reply]:
    made = []
    for number, row in enumerate(rows, start=1):
        if "resps" not in row or not {"doc_id", "doc_hash"} & set(row):
            raise ValueError(f"{str(path)!r} is damaged: sample {number} has no 'resps' or no 'doc_id'")
        score = _score(row)
        right = None if score is None else score[1] >= _MEANS.get(score[0], 1.0)
        item = f"{row.get('doc_id', '')} {row.get('doc_hash', '')}"
        made.append((task, item, "", Reply(_text(row["resps"]), right)))
    return keyed(made)


def _text(responses: Any) -> str:
    """Return what was replied: the text, or all numbers of a choice as they stand."""
    while isinstance(responses, list) and len(responses) == 1:
        responses = responses[0]
    return responses if isinstance(responses, str) else json.dumps(responses)


def _scores(
    name: str, task: str, rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any]
) -> list[Finding]:
    """Return whether the score in the results file follows from the samples."""
    table = results.get("results")
    told = table.get(task) if isinstance(table, dict) else None
    first = _score(rows[0])
    if not isinstance(told, dict) or first is None or first[0] not in _MEANS:
        return [Finding("unchecked", f"The score of {task} is not checked", (name,), False)]
    key = f"{first[0]},{rows[0].get('filter', 'none')}"
    value = told.get(key)
    values = [row.get(first[0]) for row in rows]
    if not isinstance(value, int | float) or not all(isinstance(one, bool | int | float) for one in values):
        return [Finding("unchecked", f"The score of {task} is not checked", (name,), False)]
    ours = sum(float(one) for one in values if one is not None) / len(values)
    if abs(value - ours) <= 1e-4:
        return []
    text = (
        f"{name}: the results file does not follow from the samples: {task}, {first[0]}, is {value:.4g} there and "
        f"{ours:.4g} by the samples."
    )
    return [Finding("score", text, (name,))]
