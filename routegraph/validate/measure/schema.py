"""What the files of a measurement and of a prediction must hold: see `routegraph.schema`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from routegraph.schema import (
    Kind,
    anything,
    boolean,
    checked,
    listing,
    maybe,
    one_of,
    real,
    record,
    table_of,
    text,
    whole,
)

_SHARE = real(0, below=1)
_MANY = 2**31
_PROTECTED = record(
    {}, {"n_sink": whole(0, _MANY), "window": whole(0, _MANY), "chunk_length": maybe(whole(1, _MANY))}
)

#: run.json of either kind of folder, before its settings are looked at.
RUN = record(
    {"format": text, "format_version": whole(1), "settings": table_of(anything)},
    {"runs": listing(table_of(anything))},
)

_SETTINGS = record(
    {
        "model": text,
        "policies": listing(text, least=1),
        "question_aware": boolean,
        "seed": whole(0, math.inf),
    },
    {
        "max_new_tokens": whole(1),
        "chunk_length": whole(1),
        "weights": text,
        "family": text,
        "dtype": text,
        "ratios": listing(_SHARE, least=1),
        "keep": listing(whole(1), least=1),
        "bits": text,
        "grader": text,
        "cache_row": whole(1),
        "carriers": whole(0),
        "tries": whole(0, 10_000),
        "metrics": boolean,
        "eps": listing(real(0)),
        "chat": boolean,
        "asked_again": boolean,
        "prefix": text,
        "system": text,
        "ask": text,
        "stop": text,
        "plugins": table_of(text),
        "decode_budget": listing(whole(1), least=1),
        "decode_interval": whole(1),
    },
)

_PROMPT = {"id": text, "task": text, "n_context": whole(1, _MANY)}
_ROWS = listing(whole(0, _MANY))
_MEASURED_PROMPT = record(
    {**_PROMPT, "answerable": boolean},
    {
        "question": maybe(text),
        "answer": maybe(text),
        "tags": listing(text),
        "n_question": whole(0, _MANY),
        "answer_tokens": _ROWS,
        "facts": listing(_ROWS),
        "carriers": _ROWS,
        "n_rows": whole(1, _MANY),
    },
)
_PREDICTED_PROMPT = record(_PROMPT, {"n_question": whole(0, _MANY)})


def check_settings(settings: Mapping[str, Any], said: str) -> None:
    """Raise ValueError, which begins as `said`, unless the settings of a run.json are whole."""
    checked(_SETTINGS, settings, said)
    ratios = settings.get("ratios", [])
    if not {"keep", "ratios", "decode_budget"} & set(settings):
        raise ValueError(f"{said}: settings lacks 'ratios'")
    if list(ratios) != sorted(set(ratios)):
        raise ValueError(f"{said}: settings.ratios must rise")
    if len(set(settings["policies"])) < len(settings["policies"]):
        raise ValueError(f"{said}: settings.policies names one twice")


def budgets_of(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the budgets of rows that settings name, before or while replies are decoded; empty: there are none."""
    return tuple(settings.get("keep", ()) or settings.get("decode_budget", ()))


def columns(settings: Mapping[str, Any]) -> int:
    """Return at how many ratios every prompt was asked: with bits, the reference is one more."""
    budgets = budgets_of(settings)
    asked = 1 + len(budgets) if budgets else len(settings["ratios"])
    return asked + bool(settings.get("bits"))


def measured_cell(settings: Mapping[str, Any]) -> Kind:
    """Return what a cell of a measurement must be."""
    n = len(settings["policies"]) * columns(settings)
    flags = listing(one_of(0, 1, True, False), length=n)
    share = listing(real(0, 1), length=n)
    fates = {"dead": share, "gone": share, "tokens": listing(whole(0, _MANY), length=n)}
    cut_while_decoded = bool(settings.get("decode_budget"))
    return record(
        {
            "prompt": _MEASURED_PROMPT,
            "protected": record(dict.fromkeys(settings["policies"], _PROTECTED)),
            "replies": listing(text, length=n),
            "right": flags,
            "abstained": flags,
            "metrics": table_of(listing(maybe(real()), length=n)),
            **(fates if cut_while_decoded else {}),
        },
        {
            "name": text,
            "grader": text,
            "cut": flags,
            "distinct_variants": whole(0),
            "bytes": listing(real(0), length=n),
            **fates,
        },
    )


def predicted_cell(settings: Mapping[str, Any]) -> Kind:
    """Return what a cell of a prediction must be."""
    curve = listing(real(0, 1), length=columns(settings))
    loose = listing(maybe(real()), length=columns(settings))
    policies = len(settings["policies"])
    return record(
        {
            "prompt": _PREDICTED_PROMPT,
            "protected": record(dict.fromkeys(settings["policies"], _PROTECTED)),
            "reply": text,
            "statement": text,
            "shares": maybe(table_of(listing(curve, length=policies))),
        },
        {"name": text, "tried": listing(loose, length=policies)},
    )
