"""Folders of cells that `measure` wrote: every policy and ratio of one is a run."""

from __future__ import annotations

from pathlib import Path

from routegraph.validate.audit.runs import Reply, Run, Scope, keyed, printable
from routegraph.validate.measure.result import Measured


def read_cells(folder: Path, name: str) -> list[Run]:
    """Read a folder of cells: its uncompressed run, and one of each policy and ratio.

    Raises
    ------
    ValueError
        If it is no such folder, a cell is damaged, or budgets of rows were measured.
    """
    measured = Measured.load(folder)
    measured.check_unrounded("audit")
    if measured.keep:
        raise ValueError(
            f"budgets of rows were measured in {str(folder)!r}, whose ratios differ from prompt to prompt; audit "
            "ratios"
        )
    return cells_of(measured, name)


def cells_of(measured: Measured, name: str) -> list[Run]:
    """Return the runs of a measurement: its uncompressed one, and one of each policy and ratio."""
    scope = Scope("measure", printable(name), "", printable(str(measured.settings["model"])))
    ratios = [float(ratio) for ratio in measured.ratios]

    def run(press: str, policy: int, place: int) -> Run:
        at = policy * len(ratios) + place
        rows = (
            (printable(task), item, "", Reply(texts[at], bool(right)))
            for task, item, texts, right in zip(
                measured.item_tasks,
                measured.ids,
                measured.replies,
                measured.right[:, policy, place],
                strict=True,
            )
        )
        return Run(f"{name}: {press} at {ratios[place]:g}", scope, press, ratios[place], keyed(rows))

    named = [printable(policy) for policy in measured.policies]
    compressed = [
        run(press, p, r) for p, press in enumerate(named) for r in range(len(ratios)) if ratios[r] > 0
    ]
    return [run("no_press", 0, 0), *compressed]
