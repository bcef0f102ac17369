"""Claim C7: whether linear probes stay high while generation fails."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from routegraph.schema import listing, maybe, one_of, read_document, real, record, text
from routegraph.stats.intervals import Interval
from routegraph.validate.claims.case import UNTESTABLE, Case, Claim, above, conclude, short, show
from routegraph.validate.claims.items import AT_FLOOR, known_family, nearest, standing
from routegraph.validate.measure.result import Measured


def read_probes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the results of linear probes; ValueError, one sentence, where a file holds none."""
    try:
        found: dict[str, Any] = read_document(path, PROBES, "file of probes")
    except ValueError as error:
        raise ValueError(f"{str(path)!r} holds no results of linear probes: {error}") from None
    return found


_F1 = real(-1, 1)
PROBES = record(
    {
        "results": listing(
            record(
                {"features": one_of("hidden", "cache"), "policy": text, "ratio": real(0, below=1)}
                | dict.fromkeys(("macro_f1", "low", "high", "chance"), _F1),
                {"question": maybe(_F1)},
            ),
            least=1,
        )
    },
    {"parameters": record({}, {"model": text, "family": text, "target": maybe(text)}), "model": text},
)


def probes(documents: Sequence[Mapping[str, Any]], sources: Sequence[Measured] = ()) -> Claim:
    """C7: linear probes stay high while generation fails."""
    cases: list[Case] = []
    for document in documents:
        rows, told = document["results"], document.get("parameters", {})
        model = str(document.get("model") or told.get("model", "model not named"))
        family = str(told.get("family") or known_family(model, sources))
        for features, policy in dict.fromkeys((str(r["features"]), str(r["policy"])) for r in rows):
            own = sorted(
                (r for r in rows if (r["features"], r["policy"]) == (features, policy)),
                key=lambda r: float(r["ratio"]),
            )
            late = min(own, key=lambda r: abs(float(r["ratio"]) - 0.9))
            target = told.get("target")
            where = ", ".join(filter(None, (model, policy, features, target)))
            if abs(float(late["ratio"]) - 0.9) > 0.051 or float(own[0]["ratio"]) > 0:
                case = Case(where, UNTESTABLE, "needs probes at ratio 0 and near .9")
            elif _at_floor(sources, model):
                case = Case(where, UNTESTABLE, AT_FLOOR)
            else:
                case = _probe_case(own[0], late, where, _generation(sources, model, policy))
            cases.append(replace(case, family=family))
    return conclude(
        "C7",
        "Linear probes stay high while generation fails",
        "Macro-F1 of a linear probe at the ratio nearest .9 against the middle between its value at ratio 0 "
        "and what a probe knows without the context (chance, or the question's tokens alone): holds where "
        "the interval lies above, does not where it lies below. Not testable where the probe does no better "
        "at ratio 0 than without the context, or the model is at floor. 'hidden': states of the rows after "
        "the context over the surviving cache; 'cache': what surviving rows hold.",
        "macro-F1 near .9",
        "chance, the question's tokens alone, and what generation gets right at the same ratio",
        cases,
        needed="results of linear probes at ratio 0 and near .9 (--probes FILE)",
        why="a probe that reads the question's wording stays high whatever is evicted",
    )


def _probe_case(first: Mapping[str, Any], late: Mapping[str, Any], where: str, generation: str) -> Case:
    found, start = (Interval(*(float(r[k]) for k in ("macro_f1", "low", "high"))) for r in (late, first))
    chance, question = float(late["chance"]), float(late.get("question_only") or 0.0)
    without = max(chance, question)
    beside = f"chance {short(chance)}, the question alone {short(question)}{generation}"
    if start.low <= without:
        told = f"the probe finds no more at ratio 0 than without the context: macro-F1 {show(start)}"
        return Case(where, UNTESTABLE, told, beside)
    verdict = above(found, (start.value + without) / 2)
    told = f"macro-F1 {show(found)} at {float(late['ratio']):g}, {show(start)} at 0"
    return Case(where, verdict, told, beside, found, {"start": start._asdict()})


def _at_floor(sources: Sequence[Measured], model: str) -> bool:
    """Return whether a model was measured, and nothing of it is above the floor."""
    own = [source for source in sources if source.settings["model"] == model]
    return bool(own) and all(standing(source).items is None for source in own)


def _generation(sources: Sequence[Measured], model: str, policy: str) -> str:
    for source in sources:
        place = nearest(source, 0.9)
        same = source.settings["model"] == model and not source.settings["question_aware"]
        items = standing(source).items
        if same and place is not None and policy in source.policies and items is not None:
            rates = items.rates("accuracy", policy)
            return f"; generation right {show(rates.at(place))}"
    return ""
