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
from routegraph.validate.claims import probes as claims_probes
from routegraph.validate.claims import traces as claims_traces
from routegraph.validate.claims.case import RESAMPLES, RULE, Case, Claim, share_of
from routegraph.validate.claims.hops import multi_hop
from routegraph.validate.claims.items import asked_again, family_counts, family_of, label, standing
from routegraph.validate.claims.probes import read_probes
from routegraph.validate.claims.tables import claims_sentence
from routegraph.validate.claims.together import together
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
    left = [found for found in measured if asked_again(found)]
    notes = tuple(
        f"{label(found)}: not judged, since the question was not asked again after the eviction (measured by "
        "an earlier version)"
        for found in measured
        if not asked_again(found)
    )
    of_answers = (cliff.margin, cliff.cliff, together, cliff.steepest)
    of_pairs = (pairs.question_aware, claims_traces.scale, multi_hop, pairs.presses)
    return [
        *(_with(judge(left, seed), notes) for judge in of_answers),
        *(claims_traces.depth(traces, without_sink, seed, measured) for without_sink in (False, True)),
        claims_traces.eviction_rate(traces, seed, measured),
        claims_probes.probes(probes, left),
        *(_with(judge(left, seed), notes) for judge in of_pairs),
    ]


def _with(claim: Claim, notes: tuple[str, ...]) -> Claim:
    return replace(claim, notes=(*claim.notes, *notes))


def claims_of_files(
    measured: Sequence[str | os.PathLike[str]],
    traces: Sequence[str | os.PathLike[str]] = (),
    probes: Sequence[str | os.PathLike[str]] = (),
    seed: int = 0,
    skip_damaged: bool = False,
) -> tuple[list[Claim], list[Measured]]:
    """Judge every claim on folders of `measure`, files of `extract` and results of probes.

    skip_damaged: leave damaged cells out, each named by a warning.

    Raises
    ------
    ValueError
        If one of them is no such thing.
    """
    loaded = [Measured.load(folder, skip_damaged) for folder in measured]
    for found in loaded:
        found.check_unrounded("claims")
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
                    "label": label(found),
                    "family": family_of(found),
                    "question_aware": bool(found.settings["question_aware"]),
                    "asked_again": asked_again(found),
                    "items": len(found.ids),
                    **_at_0(found),
                    "policies": found.policies,
                    "ratios": found.ratios.tolist(),
                }
                for found in measured
            ],
        },
        "families": family_counts([found for found in measured if asked_again(found)]),
        "definitions": {"verdict": RULE},
        "answer": claims_sentence(judged),
        "results": [claim.to_dict() for claim in judged],
    }


def _at_0(found: Measured) -> dict[str, Any]:
    """Return what is right at ratio 0, and which groups are above the floor."""
    stands = standing(found)
    right = int(found.right[found.answerable, 0, 0].sum())
    return {
        "right_at_0": 0 if stands.right is None else len(stands.right.ids),
        "accuracy_at_0": share_of(right, int(found.answerable.sum()))._asdict(),
        "groups": list(stands.groups),
        "at_floor": list(stands.floor),
    }
