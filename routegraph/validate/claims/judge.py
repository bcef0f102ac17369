"""The claims C1 to C11 of arXiv 2603.01426, judged on what was measured here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from routegraph._version import __version__
from routegraph.trace import Trace
from routegraph.validate.claims import cliff, pairs
from routegraph.validate.claims import traces as claims_traces
from routegraph.validate.claims.case import RESAMPLES, RULE, Case, Claim, label
from routegraph.validate.claims.traces import read_probes
from routegraph.validate.measure.result import Measured

__all__ = ["Case", "Claim", "claims", "claims_of_files", "to_dict"]


def claims(
    measured: Sequence[Measured],
    traces: Sequence[Sequence[Trace]] = (),
    probes: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> list[Claim]:
    """Judge every claim.

    Parameters
    ----------
    measured : sequence of Measured
        One for each model, task set and way of scoring (question-agnostic or question-aware).
    traces : sequence of sequences of Trace
        Each of one run of one model, for C5 and C6.
    probes : sequence of mapping
        Results of linear probes, for C7; see `read_probes`.
    seed : int
        Of the bootstrap.
    """
    return [
        cliff.margin(measured, seed),
        cliff.cliff(measured, seed),
        cliff.together(measured, seed),
        cliff.steepest(measured, seed),
        claims_traces.depth(traces, seed),
        claims_traces.eviction_rate(traces, seed),
        claims_traces.probes(probes, measured),
        pairs.question_aware(measured, seed),
        claims_traces.scale(measured, seed),
        pairs.multi_hop(measured, seed),
        pairs.presses(measured, seed),
    ]


def claims_of_files(
    measured: Sequence[str | os.PathLike[str]],
    traces: Sequence[str | os.PathLike[str]] = (),
    probes: Sequence[str | os.PathLike[str]] = (),
    seed: int = 0,
) -> tuple[list[Claim], list[Measured]]:
    """Judge every claim on folders of `measure`, files of `extract` and results of probes.

    Raises
    ------
    ValueError
        If one of them is no such thing.
    """
    loaded = [Measured.load(folder) for folder in measured]
    names = [label(found) for found in loaded]
    for k, folder in enumerate(measured):
        if names.count(names[k]) > 1:  # two task sets of one model: told apart by their folders
            model = f"{loaded[k].settings['model']} ({Path(folder).name})"
            loaded[k] = replace(loaded[k], settings={**loaded[k].settings, "label": model})
    read = [read_probes(path) for path in probes]
    return claims(loaded, [Trace.load(path) for path in traces], read, seed), loaded


def to_dict(
    judged: Sequence[Claim], measured: Sequence[Measured] = (), seed: int | None = None
) -> dict[str, Any]:
    """Return claims as one JSON-ready document."""
    return {
        "version": __version__,
        "seed": seed,
        "paper": "arXiv 2603.01426",
        "parameters": {
            "resamples": RESAMPLES,
            "measured": [
                {
                    "model": str(found.settings["model"]),
                    "question_aware": bool(found.settings["question_aware"]),
                    "items": len(found.ids),
                    "policies": found.policies,
                    "ratios": found.ratios.tolist(),
                }
                for found in measured
            ],
        },
        "definitions": {"verdict": RULE},
        "results": [claim.to_dict() for claim in judged],
    }
