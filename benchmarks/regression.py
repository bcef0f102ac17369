"""What changed since the committed results: every time and peak beside the one before, and whether the spreads part.

``python -m benchmarks.regression OLD.json NEW.json``; `make bench` writes it to ``results/changes.md``. A time has
changed where the spreads of the two runs do not meet and the medians are a tenth apart: on shared machines runs of
seconds that follow each other scatter as much. How fast the machine itself was, by its triad, stands beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from routegraph.tables import Grid

#: Medians that are less apart than this factor have not changed.
FACTOR = 1.1
#: Names of what is measured in a row of a list, in the order they are told.
_LABELS = ("model", "tokens", "how", "n", "shape")


@dataclass(frozen=True)
class Change:
    """One figure before and after: seconds, or bytes where `unit` says so.

    `apart`: whether the spreads do not meet and the medians are a tenth apart.
    """

    name: str
    before: float
    after: float
    unit: str
    apart: bool

    @property
    def times(self) -> float:
        """Return how many times the old figure the new one is."""
        return self.after / self.before


def figures(results: Any, name: str = "") -> Iterator[tuple[str, tuple[float, float, float], str]]:
    """Yield every figure of a results document: name, (median, least, most) and unit.

    A time is a mapping with these three, or a list in a mapping ``seconds``;
    ``peak_bytes`` and ``above_model`` are peaks.
    """
    if isinstance(results, Mapping):
        if {"median", "least", "most"} <= results.keys():
            yield name, (results["median"], results["least"], results["most"]), "s"
        for key in ("peak_bytes", "above_model"):
            if key in results:
                yield f"{name}, {key}", (results[key],) * 3, "B"
        timed = results.get("seconds")
        for key, walls in timed.items() if isinstance(timed, Mapping) else ():
            yield f"{name}, {key}", (float(np.median(walls)), min(walls), max(walls)), "s"
        for key, value in results.items():
            yield from figures(value, f"{name} / {key}" if name else str(key))
    elif isinstance(results, list) and results and isinstance(results[0], Mapping):
        for row in results:
            told = ", ".join(str(row[label]) for label in _LABELS if label in row)
            yield from figures(row, f"{name} / {told}")


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return every figure that both documents have, in the order of the new one."""
    old = {name: values for name, values, _ in figures(before)}
    found = []
    for name, (median, least, most), unit in figures(after):
        if name not in old:
            continue
        was, low, high = old[name]
        apart = (least > high or most < low) and not 1 / FACTOR < median / was < FACTOR
        found.append(Change(name, was, median, unit, apart))
    return found


def page(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return what changed, as a page: first in a sentence, then figure by figure."""
    found = changes(before, after)
    apart = [one for one in found if one.apart]
    old, new = {name for name, *_ in figures(before)}, {name for name, *_ in figures(after)}
    speed = after["triad_bytes_per_second"] / before["triad_bytes_per_second"]
    lines = [
        "# What changed since the last results",
        "",
        f"Of {len(found)} figures that both runs have, {sum(one.times > 1 for one in apart)} rose and "
        f"{sum(one.times < 1 for one in apart)} fell beyond the spread of both. {len(new - old)} are new, "
        f"{len(old - new)} are gone. This machine moved {speed:.2f} times the bytes a second of the one before.",
        "",
    ]
    if versions := [
        f"{name} {before['versions'].get(name, 'missing')} -> {version}"
        for name, version in after["versions"].items()
        if before["versions"].get(name) != version
    ]:
        lines += [f"Versions: {', '.join(versions)}.", ""]
    if apart:
        rows = [
            [one.name, _shown(one.before, one.unit), _shown(one.after, one.unit), f"{one.times:.2f}"]
            for one in sorted(apart, key=lambda one: -one.times)
        ]
        lines += [Grid(["figure", "before", "after", "times"], rows).to_markdown(), ""]
    return "\n".join(lines)


def _shown(value: float, unit: str) -> str:
    return f"{value:.3g} s" if unit == "s" else f"{value / 1e6:.0f} MB"


if __name__ == "__main__":
    documents = [json.loads(Path(name).read_text()) for name in sys.argv[1:3]]
    sys.stdout.write(page(*documents))
