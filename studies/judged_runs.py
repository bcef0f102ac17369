"""What the predictor is judged on: every candidate on every measured item, collected in one file.

``python -m studies.judged_runs NAME=CELLS,FORMS ...`` puts what `studies.reply_forms read` worked out of folders of
cells into studies/judged_runs.npz. Names that begin with "dev-" are those of the development models.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.files import atomic_open
from routegraph.stats.auc import Auc, pooled_auc
from routegraph.validate.predict.tries import between, bisected, likelihood_lost
from studies.reply_forms import cells_of, tables

Floats = NDArray[np.float64]

#: Ends the names of runs whose items nobody had read when trying ratios was written down.
OTHER_HALF = "-other"
DATA = Path(__file__).parent / "judged_runs.npz"
#: Of the measured metrics, those that stand beside: told the answer, and of the first step under each eviction.
GER, FIRST_STEP = ("ger_answer_model", "ger_answer_layer"), "logit_kl"


@dataclass(frozen=True, eq=False)
class Run:
    """One model, asked in one way: what was measured, and every candidate."""

    name: str
    policies: tuple[str, ...]
    ratios: Floats
    tasks: tuple[str, ...]
    fails: NDArray[np.bool_]
    values: dict[str, Floats]

    def auc(self, of: str | Floats, policy: str | None = None) -> Auc:
        """Return how well a candidate, or values of one's own, tell the items that fail, within cells.

        A cell is a policy, ratio and task; values are float64[n_items, n_policies, n_ratios].
        """
        return pooled_auc(of if isinstance(of, str) else "values", self._cells(of, policy), len(self.tasks))

    def mean_auc(self, name: str) -> float:
        """Return the mean over cells, each by itself."""
        found = [
            pooled_auc(name, [cell], len(self.tasks), resamples=1).auc.value for cell in self._cells(name)
        ]
        return float(np.nanmean(found)) if np.isfinite(found).any() else np.nan

    def _cells(self, of: str | Floats, policy: str | None = None) -> Iterator[tuple[Any, Any, Any]]:
        values = self.values[of] if isinstance(of, str) else of
        return cells_of(self.tasks, self.policies, values, self.fails, policy)

    def lost(self, tries: int = 0) -> Floats:
        """Return what `predict` goes by, with so many ratios of each policy tried."""
        return _lost(self, tries)

    def tried(self, tries: int) -> Floats:
        """Return what is lost at the ratios that bisection tries, NaN elsewhere."""
        full = likelihood_lost(self.values["forced_worst"][..., None])
        return np.array(
            [bisected(lambda places, one=one: [one[at] for at in places], *one.shape, tries) for one in full]
        )

    def by_task(self) -> dict[str, NDArray[np.bool_]]:
        """Return which items each task has, bool[n_items]."""
        tasks = np.array(self.tasks)
        return {task: tasks == task for task in dict.fromkeys(self.tasks)}

    def spent(self, policy: str, tries: int = 0) -> Floats:
        """Return what a dial goes by under a policy, float64[n_items, n_ratios]: nothing is lost at ratio 0."""
        spent = self.lost(tries)[:, self.policies.index(policy)].copy()
        spent[:, 0] = 0
        return spent


@cache
def _lost(run: Run, tries: int) -> Floats:
    if not tries:
        return run.values["support_lost"]
    return between((run.values["energy_worst"] + run.values["sources_lost"]) / 2, run.tried(tries))


def collect(pairs: list[str]) -> None:
    """Put folders into one file."""
    kept: dict[str, Any] = {}
    for pair in pairs:
        name, folders = pair.split("=")
        found, values = tables(*(Path(one) for one in folders.split(",")))
        values |= {own: found.metrics[own] for own in (*GER, FIRST_STEP) if own in found.metrics}
        kept[f"{name}/policies"] = np.array(found.policies)
        kept[f"{name}/ratios"] = found.ratios
        kept[f"{name}/tasks"] = np.array(found.item_tasks)
        kept[f"{name}/fails"] = found.fails
        for own, table in values.items():
            kept[f"{name}/values/{own}"] = table.astype(np.float32)
    packed = io.BytesIO()
    np.savez_compressed(packed, **kept)
    with atomic_open(DATA) as stream:
        stream.write(packed.getvalue())


def runs() -> dict[str, Run]:
    """Return what was collected."""
    with np.load(DATA) as kept:
        names = dict.fromkeys(key.split("/")[0] for key in kept.files)
        return {
            name: Run(
                name,
                tuple(map(str, kept[f"{name}/policies"])),
                kept[f"{name}/ratios"],
                tuple(map(str, kept[f"{name}/tasks"])),
                kept[f"{name}/fails"],
                {
                    key.split("/")[2]: kept[key].astype(float)
                    for key in kept.files
                    if key.startswith(f"{name}/values/")
                },
            )
            for name in names
        }


if __name__ == "__main__":
    collect(sys.argv[1:])
