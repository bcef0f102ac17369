"""Result folders of kvpress's evaluation: predictions.csv, metrics.json, config.yaml.

Layout after https://github.com/NVIDIA/kvpress, evaluation/evaluate.py: ``DATASET__DATADIR__MODEL__PRESS__RATIO``, more
parts after the ratio for whatever is not the default, and numbered folders inside for the same settings once more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from routegraph.validate.audit.files import read_csv, read_json, read_yaml
from routegraph.validate.audit.rules import Scored, answers_of, rule_of, scores_of, suspicious
from routegraph.validate.audit.runs import UNCOMPRESSED, Finding, Reply, Run, Scope, keyed, printable

_RATIO = re.compile(r"\d+\.\d\d")
#: Settings of config.yaml that may change replies, whatever the press.
_SETTINGS = (
    "fraction",
    "max_new_tokens",
    "max_context_length",
    "query_aware",
    "needle_depth",
    "fp8",
    "model_kwargs",
)
#: Settings under which the number in the folder's name is no compression ratio, or not all of it.
_OTHER_DIALS = ("threshold", "head_compression_ratio", "key_channel_compression_ratio")


def read_kvpress(folder: Path, name: str) -> Run:
    """Read one result folder.

    Parameters
    ----------
    folder : Path
        Holds predictions.csv.
    name : str
        What the run is called.

    Raises
    ------
    ValueError
        If a file is damaged, or neither the folder's name nor config.yaml says what the run is.
    """
    rows = read_csv(folder / "predictions.csv")
    if "predicted_answer" not in rows[0]:
        raise ValueError(
            f"{str(folder / 'predictions.csv')!r} has no column 'predicted_answer', so that it holds no replies"
        )
    told: Mapping[str, Any] = {}
    unread = "There is no config.yaml to check the name by"
    if (folder / "config.yaml").is_file():
        told, unread = read_yaml(folder / "config.yaml")
    parts = _parsed(folder.name)
    if parts is None and not all(told.get(key) for key in ("dataset", "model", "press_name")):
        raise ValueError(
            f"cannot tell which data set, model, press and ratio {str(folder)!r} is of; name the folder "
            "DATASET__DATADIR__MODEL__PRESS__RATIO as kvpress does, or give its config.yaml"
        )
    dataset, data_dir, model, press, ratio, extras = parts or _of_config(told)
    findings = [Finding("unchecked", unread, (name,), False)] if unread else []
    apart = _differences(told, parts) if parts else []
    ratio, dial = _real_ratio(ratio, told, rows)
    if not dial and (reported := _reported(rows)) is not None and abs(reported - ratio) > 0.011:
        apart.append(
            f"ratio {ratio:g} in the name, {reported:g} reported by the press (column compression_ratio)"
        )
    if apart:
        findings.append(
            Finding(
                "names",
                f"{name} says two things about itself: {'; '.join(apart)}. Nothing is certified on it.",
                (name,),
            )
        )
    answered = [_row(dataset, row) for row in rows]
    findings += _answers(name, answered)
    findings += _metrics(name, folder / "metrics.json", dataset, answered)
    replies = keyed(
        (
            printable(task),
            row.get("question", "").strip(),
            "".join(answers),
            _reply(dataset, task, text, answers),
        )
        for row, (task, text, answers) in zip(rows, answered, strict=True)
    )
    return Run(
        name=name,
        scope=Scope("kvpress", printable(dataset), printable(data_dir), printable(model)),
        press=printable(press),
        ratio=0.0 if press in UNCOMPRESSED else ratio,
        replies=replies,
        extras=tuple(map(printable, extras)),
        settings={key: told[key] for key in _SETTINGS if key in told},
        findings=tuple(findings),
        trusted=not apart,
    )


Parts = tuple[str, str, str, str, float, tuple[str, ...]]


def _parsed(folder: str) -> Parts | None:
    """Return what a folder's name says; None where it is no such name."""
    parts = folder.split("__")
    at = next((i for i in range(3, len(parts)) if _RATIO.fullmatch(parts[i])), None)
    if at is None:
        return None
    data_dir = "__".join(parts[1 : at - 2])
    return parts[0], data_dir, parts[at - 2], parts[at - 1], float(parts[at]), tuple(parts[at + 1 :])


def _of_config(told: Mapping[str, Any]) -> Parts:
    """Return what a configuration says."""
    return (
        str(told["dataset"]),
        str(told.get("data_dir") or ""),
        str(told["model"]).replace("/", "--"),
        str(told["press_name"]),
        _number(told.get("compression_ratio")) or 0.0,
        ("query_aware",) if told.get("query_aware") else (),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _differences(told: Mapping[str, Any], parts: Parts) -> list[str]:
    """Return where config.yaml says otherwise than the folder's name."""
    dataset, data_dir, model, press, ratio, _ = parts
    named = {
        "dataset": (dataset, told.get("dataset")),
        "data_dir": (data_dir, None if "data_dir" not in told else str(told["data_dir"] or "")),
        "model": (model, None if "model" not in told else str(told["model"]).replace("/", "--")),
        "press": (press, told.get("press_name")),
    }
    found = [
        f"{what} {printable(own)!r} in the name, {printable(str(other))!r} in config.yaml"
        for what, (own, other) in named.items()
        if other is not None and str(other) != own
    ]
    dials = [_number(told.get(key)) for key in ("threshold", "head_compression_ratio", "compression_ratio")]
    dial = next((one for one in dials if one is not None), None)
    if dial is not None and abs(dial - ratio) > 0.005001:
        found.append(f"ratio {ratio:g} in the name, {dial:g} in config.yaml")
    return found


def _reported(rows: Sequence[Mapping[str, str]]) -> float | None:
    """Return the mean ratio that the press reported of itself, None where it did not."""
    values = []
    for row in rows:
        try:
            values.append(float(row.get("compression_ratio", "")))
        except ValueError:
            return None
    return sum(values) / len(values)


def _real_ratio(
    ratio: float, told: Mapping[str, Any], rows: Sequence[Mapping[str, str]]
) -> tuple[float, bool]:
    """Return the ratio, and whether the number in the name was none: then it is what the press reported."""
    dial = any(told.get(key) is not None for key in _OTHER_DIALS)
    reported = _reported(rows) if dial else None
    return (ratio if reported is None else round(reported, 4)), dial


def _row(dataset: str, row: Mapping[str, str]) -> tuple[str, str, tuple[str, ...]]:
    """Return task, reply and right answers of a row."""
    task = row.get("task", "").strip() or dataset
    return task, row["predicted_answer"], answers_of(dataset, task, row)


def _reply(dataset: str, task: str, text: str, answers: tuple[str, ...]) -> Reply:
    return Reply(text, rule_of(dataset, task).right(text, answers), answers)


def _answers(name: str, answered: Sequence[tuple[str, str, tuple[str, ...]]]) -> list[Finding]:
    """Return whether answers could not be parsed, or are not there."""
    found = []
    odd = [answers for _, _, answers in answered if suspicious(answers)]
    if odd:
        found.append(
            Finding(
                "answers",
                f"{name}: {len(odd)} of {len(answered)} answers are lists that cannot be parsed and count as one "
                f"text, such as {printable(odd[0][0], 60)!r}; replies that hold one of them count as wrong.",
                (name,),
            )
        )
    empty = sum(not answers for _, _, answers in answered)
    if empty:
        text = f"{empty} of {len(answered)} rows have no answer, so that only texts can be compared there"
        found.append(Finding("unchecked", text, (name,), False))
    return found


def _metrics(
    name: str, path: Path, dataset: str, answered: Sequence[tuple[str, str, tuple[str, ...]]]
) -> list[Finding]:
    """Return whether metrics.json follows from the replies."""
    if not path.is_file():
        return [Finding("unchecked", "There is no metrics.json to check", (name,), False)]
    metrics = read_json(path)
    try:
        scores = scores_of(dataset, metrics, answered)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from None
    if scores is None:
        what = f"metrics.json is not checked, since the rule of {printable(dataset)} is not among the graders"
        return [Finding("unchecked", what, (name,), False)]
    return _wrong_scores(name, scores)


def _wrong_scores(name: str, scores: Sequence[Scored]) -> list[Finding]:
    joined = [one for one in scores if one.follows_joined]
    others = [one for one in scores if not one.agrees and not one.follows_joined]
    found = []
    if joined:
        found.append(
            Finding(
                "answers",
                f"{name}: metrics.json was made with answers parsed wrong: {_beside(joined[0])} it follows only if "
                f"lists such as ['a' 'b'] are read as the one answer 'ab'{_more(len(joined) - 1)}.",
                (name,),
            )
        )
    if others:
        found.append(
            Finding(
                "score",
                f"{name}: metrics.json does not follow from predictions.csv: {_beside(others[0])} the data set's "
                f"own rule was applied{_more(len(others) - 1)}.",
                (name,),
            )
        )
    return found


def _beside(one: Scored) -> str:
    return f"{printable(one.name)} is {one.told:g} there and {one.ours:.4g} by the replies;"


def _more(count: int) -> str:
    return f" (and {count} more such score{'s' * (count > 1)})" if count else ""
