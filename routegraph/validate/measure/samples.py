"""Every prompt and every reply of a measurement, as tables and as files that other programs read."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from routegraph.files import atomic_open, check_writable
from routegraph.tables import Grid
from routegraph.validate.measure.reading import place_word, short
from routegraph.validate.measure.result import Measured
from routegraph.validate.prompts.fields import golds_of
from routegraph.validate.prompts.verdict import Verdict

#: Endings of the files that samples are written to.
ENDINGS = (".csv", ".jsonl")


@dataclass(frozen=True)
class Sample:
    """One reply.

    Attributes
    ----------
    id, task, policy : str
    ratio : float
        Of this prompt; where budgets of rows were asked for, the one that keeps so many.
    keep : int
        Rows that this ratio keeps of each slot (on average where a policy shares them out).
    question, gold, reply : str
        `gold`: the answer, several of them parted by " | "; empty where the context does not tell.
    right, abstained : bool
        Both, where abstaining is right.
    verdict : str
        "right", "wrong" or "abstained".
    bits : str
        Bits of the context's cache; empty: it is as it is.
    """

    id: str
    task: str
    policy: str
    ratio: float
    keep: int
    question: str
    gold: str
    reply: str
    right: bool
    abstained: bool
    verdict: str
    bits: str = ""


def samples(
    found: Measured,
    *,
    policy: str | None = None,
    ratio: float | None = None,
    keep: int | None = None,
    prompt: str | None = None,
) -> list[Sample]:
    """Return every reply, prompts outermost, then policies, then ratios.

    Parameters
    ----------
    found : Measured
    policy, ratio, keep, prompt : optional
        Only those of one policy, of one ratio or one budget of rows that was asked for, of one prompt by its id.

    Raises
    ------
    ValueError
        If that was not measured.
    """
    items = range(len(found.ids)) if prompt is None else [_item(found, prompt)]
    policies = range(len(found.policies)) if policy is None else [found.place_of(policy)]
    places = _places(found, ratio, keep)
    return [_sample(found, i, p, k) for i in items for p in policies for k in places]


def write_samples(path: str | os.PathLike[str], rows: Sequence[Sample]) -> int:
    """Write samples, one a line, as CSV or JSON lines by the ending of the file; returns how many.

    Raises
    ------
    ValueError
        If the ending is another one, or the folder does not exist.
    """
    check_samples_path(path)
    names = [field.name for field in fields(Sample) if field.name != "bits" or any(row.bits for row in rows)]
    with atomic_open(path, "w") as stream:
        told = ({name: getattr(row, name) for name in names} for row in rows)
        if Path(path).suffix.lower() == ".csv":
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(row.values() for row in told)
        else:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in told)
    return len(rows)


def check_samples_path(path: str | os.PathLike[str]) -> None:
    """Refuse, before anything is read, a file that samples could not be written to."""
    if Path(path).suffix.lower() not in ENDINGS:
        raise ValueError(
            f"cannot write replies to {str(path)!r}: choose a name that ends in {' or '.join(ENDINGS)}"
        )
    check_writable(path)


@dataclass(frozen=True)
class Told:
    """What became of one prompt.

    Attributes
    ----------
    id, question, gold, reply : str
        The reply at ratio 0.
    right : bool
        Whether that is right.
    broke : mapping of policy to str
        The first ratio (or budget) at which the reply is not right any more; "never", "-" where it was not at ratio 0.
    """

    id: str
    question: str
    gold: str
    reply: str
    right: bool
    broke: dict[str, str]


def told(found: Measured, *, policy: str | None = None, prompt: str | None = None) -> list[Told]:
    """Return what became of every prompt; of one policy or one prompt only where named; ValueError as `samples`."""
    names = found.policies if policy is None else [found.policies[found.place_of(policy)]]
    rows = []
    for first in samples(found, policy=names[0], ratio=0.0, prompt=prompt)[:: 1 + bool(found.bits)]:
        item = found.ids.index(first.id)
        broke = {name: _broke(found, item, found.place_of(name)) for name in names}
        rows.append(Told(first.id, first.question, first.gold, first.reply, first.right, broke))
    return rows


def told_grid(rows: Sequence[Told]) -> Grid:
    """Return one row a prompt; long texts are shortened."""
    columns = ["id", "question", "gold", "reply at ratio 0", *(rows[0].broke if rows else ())]
    table = [
        [row.id, _cut(row.question, 40), _cut(row.gold, 20), _cut(row.reply, 24), *row.broke.values()]
        for row in rows
    ]
    return Grid(columns, table, title="Where the reply is first not right any more", right_from=4)


def samples_grid(rows: Iterable[Sample]) -> Grid:
    """Return one row a reply."""
    rows = list(rows)
    any_bits = any(row.bits for row in rows)
    table = [
        [
            row.id,
            row.policy,
            f"{_place(row, any_bits)} ({row.keep})",
            row.verdict,
            " ".join(row.reply.split()),
        ]
        for row in rows
    ]
    return Grid(["id", "policy", "ratio (rows)", "verdict", "reply"], table, right_from=5)


def _cut(text: str, width: int) -> str:
    """Return a text on one line, its end left out beyond a width."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3].rstrip() + "..."


def _place(row: Sample, any_bits: bool) -> str:
    """Return a ratio, and where some have bits, that the others are of the cache as it is."""
    return short(row.ratio) + (" full" if any_bits and not row.bits else "")


def _sample(found: Measured, item: int, policy: int, k: int) -> Sample:
    asked, ratio = found.cells[item]["prompt"], float(found.ratios_of(item)[k])
    right, abstained = bool(found.right[item, policy, k]), bool(found.abstained[item, policy, k])
    return Sample(
        found.ids[item],
        found.item_tasks[item],
        found.policies[policy],
        ratio,
        found.kept_of(item, k),
        str(asked.get("question", "")),
        " | ".join(golds_of(str(asked.get("answer", "")), map(str, asked.get("answers", ())))),
        found.replies[item][policy * len(found.ratios) + k],
        right,
        abstained,
        Verdict(right, abstained).word,
        found.bits if k else "",
    )


def _broke(found: Measured, item: int, policy: int) -> str:
    right = found.right[item, policy]
    if not right[0]:
        return "-"
    if right.all():
        return "never"
    first = int(np.argmin(right))
    ratio = float(found.ratios_of(item)[first])
    return f"{found.keep[first - 1]} ({short(round(ratio, 2))})" if found.keep else short(ratio)


def _item(found: Measured, prompt: str) -> int:
    if prompt not in found.ids:
        some = ", ".join(found.ids[:5]) + (", ..." if len(found.ids) > 5 else "")
        raise ValueError(f"unknown prompt {prompt!r}; choose from: {some}")
    return found.ids.index(prompt)


def _places(found: Measured, ratio: float | None, keep: int | None) -> list[int]:
    """Return the places of the ratios or budgets asked for."""
    places = list(range(len(found.ratios)))
    if ratio is None and keep is None:
        return places
    if ratio is not None and keep is not None:
        raise ValueError("give either a ratio or a number of rows to keep, not both")
    if keep is not None:
        if keep not in found.keep:
            asked = ", ".join(map(str, found.keep)) or "none: it was asked by ratio"
            raise ValueError(f"keep {keep} was not measured; choose from: {asked}")
        return [found.keep.index(keep) + 1]
    known = [k for k in places if np.isclose(found.ratios[k], ratio)][: 1 + bool(found.bits)]  # type: ignore[arg-type]
    if not known or (found.keep and known != [0]):
        asked = ", ".join(place_word(found, k) for k in places)
        raise ValueError(f"ratio {ratio:g} was not measured; choose from: {asked}")
    return known
