"""The diagram as a result: in words and tables, as numbers, as a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph._version import __version__
from routegraph.stats.auc import Auc, pooled_auc
from routegraph.stats.intervals import Interval, interval_dict, listed, none_of
from routegraph.stats.proportions import wilson
from routegraph.tables import Block, Page, Shown, many, note, points, words
from routegraph.tables import Grid as Table
from routegraph.validate.diagram.best import BUDGETS, Best, best, best_dict, best_sentence, check_budget
from routegraph.validate.diagram.cells import Grid, name_of, read_grid
from routegraph.validate.diagram.estimates import LEVELS, MEANINGS, Estimate, crossing, estimates
from routegraph.validate.measure.reading import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

DEFINITIONS = {
    **MEANINGS,
    "ratio": "fraction of the rows of the context's cache that the policy is asked to remove",
    "bytes": "of the context's cache, packed, scales and offsets and bases counted / of all of its rows at 16 bits; "
    "mean over items",
    "bits_per_number": "16 * bytes / share of the rows kept: bits for each number kept, scales and all else counted",
    "error": "mean over the cells with both bits and a ratio above 0 of |estimate - measured|, 95 % bootstrap over "
    "items; bias: of estimate - measured; all but simulated take bits alone as measured",
    "tells": "AUC of the attention that an item's question reads elsewhere once rows are removed and keys rounded, "
    "told without decoding: the chance that of an item that fails and one that holds, in one cell, the failing one's "
    "is larger; cells with at least 5 of each, pooled by pairs, 95 % bootstrap over items",
    "iso": "first ratio at which the share kept is below the level, by straight lines between the ratios measured; "
    "null where it is not below at any",
    "split": "for a number of bytes, every precision with as many rows as fit among the ratios measured; paired "
    "differences with Tango's 95 % intervals, McNemar's exact test, Holm over all pairs of splits",
}


@dataclass(frozen=True, eq=False, repr=False)
class Diagram(Shown):
    """Ratio against bits at equal bytes.

    Attributes
    ----------
    grid : Grid
        What was measured.
    budgets : tuple of float
        Shares of the whole cache's bytes for which the best split is named.
    moved : float64[n_bits, n_ratios], optional
        Share of the attention that moves, simulated with the logit noise measured.
    of_items : float64[n_items, n_bits, n_ratios], optional
        Share of the attention that each item's question reads elsewhere, measured; NaN for items of which it is
        unknown.
    seed : int
        Of the bootstrap.
    """

    grid: Grid
    budgets: tuple[float, ...] = BUDGETS
    moved: Floats | None = None
    of_items: Floats | None = None
    seed: int = 0

    @cached_property
    def estimates(self) -> list[Estimate]:
        """Estimates of what is kept, and their errors."""
        return estimates(self.grid, self.moved, self.seed)

    @cached_property
    def best(self) -> list[Best]:
        """The best split of every budget."""
        return [best(self.grid, budget) for budget in self.budgets]

    @cached_property
    def tells(self) -> dict[str, Auc]:
        """How well the attention moved tells which items fail, with bits alone and with bits and a ratio."""
        if self.of_items is None:
            return {}
        before, values = np.flatnonzero(self.grid.before), self.of_items[self.grid.before]
        return {
            name: pooled_auc(
                name,
                [
                    (before, values[:, bits, ratio], ~self.grid.held[:, bits, ratio])
                    for bits in range(1, len(self.grid.bits))
                    for ratio in ratios
                ],
                len(self.grid.ids),
                seed=self.seed,
            )
            for name, ratios in (
                ("bits alone", [0]),
                ("bits and ratio", list(range(1, len(self.grid.ratios)))),
            )
        }

    def surfaces(self) -> dict[str, Floats]:
        """Return the share kept, measured and by every estimate, float64[n_bits, n_ratios] each."""
        return {"measured": self.grid.kept, **{one.name: one.kept for one in self.estimates}}

    def kept_at(self, bits: int, ratio: int) -> Interval:
        """Return the share kept in one cell with Wilson's 95 % interval."""
        held = self.grid.held[:, bits, ratio]
        low, high = wilson(int(held.sum()), len(held))
        return Interval(float(held.mean()), float(low), float(high))

    def page(self) -> Page:
        """Return the best splits, what the estimates are worth, and the whole grid."""
        grid = self.grid
        head = (
            f"{grid.settings['model']}, policy {grid.policy}: of {many(len(grid.ids), 'item')}, {len(grid.held)} are "
            "right with nothing removed and the cache as it is."
        )
        blocks: list[Block] = [
            words(head, *(best_sentence(grid, found) for found in self.best)),
            self._measured_table(),
            self._estimate_table(),
            points(
                [
                    *(self.error_sentence(one) for one in self.estimates),
                    *map(tells_sentence, self.tells.values()),
                ]
            ),
            note(
                "Kept: of the answers right before, with Wilson's 95 % interval; below it the bytes of the cache, 100: "
                "all rows at 16 bits. The best split is chosen on these items, so that its own share is a little high.",
                *(
                    f"{name.capitalize()}: {MEANINGS[name]}."
                    for name in self.surfaces()
                    if name != "measured"
                ),
            ),
        ]
        return Page(tuple(blocks))

    def _measured_table(self) -> Table:
        rows = []
        for bits, name in enumerate(self.grid.bits):
            cells = []
            for ratio, taken in enumerate(self.grid.bytes[bits]):
                kept = self.kept_at(bits, ratio)
                cells.append(
                    f"{100 * kept.value:.0f} [{100 * kept.low:.0f}, {100 * kept.high:.0f}]\n{100 * taken:.1f}"
                )
            rows.append([name_of(name), *cells])
        columns = ["bits", *(short(ratio) for ratio in self.grid.ratios)]
        return Table(columns, rows, "Kept at the ratio, percent, and bytes, percent")

    def _estimate_table(self) -> Table:
        surfaces = self.surfaces()
        rows = []
        for bits, name in enumerate(self.grid.bits[1:], start=1):
            cells = [
                " / ".join(f"{100 * kept[bits, ratio]:.0f}" for kept in surfaces.values())
                for ratio in range(len(self.grid.ratios))
            ]
            rows.append([name_of(name), *cells])
        columns = ["bits", *(short(ratio) for ratio in self.grid.ratios)]
        return Table(columns, rows, f"Kept, percent: {' / '.join(surfaces)}")

    def error_sentence(self, one: Estimate) -> str:
        """Return how far an estimate is off."""
        error, bias = (f"{x.value:.3f} [{x.low:.3f}, {x.high:.3f}]" for x in (one.error, one.bias))
        cells = f"{many(one.cells, 'cell')} of bits and ratio"
        told = f"{one.name}: off by {error} on average over {cells}, by {bias} with the sign"
        if one.alone is None:
            return f"{told}."
        return (
            f"{told}; by {one.alone.value:.3f} [{one.alone.low:.3f}, {one.alone.high:.3f}] with bits alone."
        )

    def iso(self) -> list[dict[str, Any]]:
        """Return where the share kept falls below every level, as JSON-ready values."""
        return [
            {
                "level": level,
                "bits": name,
                **{
                    source: none_of(crossing(self.grid.ratios, kept[bits], level))
                    for source, kept in self.surfaces().items()
                },
            }
            for level in LEVELS
            for bits, name in enumerate(self.grid.bits)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        grid = self.grid
        surfaces = self.surfaces()
        return {
            "version": __version__,
            "seed": self.seed,
            "parameters": {
                **grid.settings,
                "policy": grid.policy,
                "bits": list(grid.bits),
                "ratios": grid.ratios.tolist(),
                "bytes": list(self.budgets),
                "prompts": len(grid.ids),
                "right_before": len(grid.held),
            },
            "definitions": DEFINITIONS,
            "answer": " ".join(best_sentence(grid, found) for found in self.best),
            "results": [
                {
                    "bits": name,
                    "ratio": float(grid.ratios[ratio]),
                    "bytes": float(grid.bytes[bits, ratio]),
                    "bits_per_number": float(grid.per_number[bits, ratio]),
                    "measured": interval_dict(self.kept_at(bits, ratio)),
                    **{one.name: float(one.kept[bits, ratio]) for one in self.estimates},
                    "moved": None if self.moved is None else float(self.moved[bits, ratio]),
                }
                for bits, name in enumerate(grid.bits)
                for ratio in range(len(grid.ratios))
            ],
            "estimates": [
                {
                    "name": one.name,
                    "error": interval_dict(one.error),
                    "bias": interval_dict(one.bias),
                    "cells": one.cells,
                    "error_of_bits_alone": None if one.alone is None else interval_dict(one.alone),
                }
                for one in self.estimates
            ],
            "tells": [
                {
                    "where": name,
                    **interval_dict(one.auc),
                    "cells": one.cells,
                    "pairs": one.pairs,
                    "items": one.items,
                }
                for name, one in self.tells.items()
            ],
            "iso": self.iso(),
            "best": [best_dict(grid, found) for found in self.best],
            "kept": {name: [listed(row) for row in kept] for name, kept in surfaces.items()},
        }

    def plot(self, axes: Any = None) -> Figure:
        """Draw ratio against bits for a paper, a panel an estimate; axes : as many as `surfaces` has."""
        from routegraph.validate.diagram.figures import plot_diagram

        return plot_diagram(self.grid, self.surfaces(), axes)


def diagram(
    folders: Sequence[str | os.PathLike[str]],
    *,
    policy: str | None = None,
    budgets: Sequence[float] = BUDGETS,
    noise: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Diagram:
    """Put folders of `measure`, without bits and with, on one diagram.

    Parameters
    ----------
    folders : sequence of path
        Of one model, asked the same prompts at the same ratios.
    policy : str, optional
        The only one that all folders have, by default.
    budgets : sequence of float
        Shares of the whole cache's bytes, in (0, 1], for which the best split is named.
    noise : mapping, optional
        What `routegraph.validate.noise.run.logit_noise` found for the same model, bits and ratios, as its `to_dict`
        tells it; without it nothing is simulated.
    seed : int
        Of the bootstrap.

    Raises
    ------
    ValueError
        As `read_grid` and `best`; if the noise is of another model or policy, or lacks bits or ratios.
    """
    for budget in budgets:
        check_budget(budget)
    grid = read_grid(folders, policy)
    chosen = tuple(sorted(set(budgets), reverse=True)) or BUDGETS
    if noise is None:
        return Diagram(grid, chosen, seed=seed)
    return Diagram(grid, chosen, _moved(grid, noise), _of_items(grid, noise), seed)


def _moved(grid: Grid, noise: Mapping[str, Any]) -> Floats:
    """Return the attention that moves in the simulation, on the cells of a grid, float64[n_bits, n_ratios]."""
    told = noise.get("parameters", {})
    for name, own in (("weights", grid.settings["weights"]), ("policy", grid.policy)):
        if told.get(name) != own:
            raise ValueError(
                f"the noise was measured with {name} {told.get(name)!r}, and the answers with {own!r}"
            )
    found = {(row["bits"], float(row["ratio"])): float(row["simulated"]) for row in noise.get("results", ())}
    made = np.empty(grid.kept.shape)
    for bits, ratio in np.ndindex(made.shape):
        cell = (grid.bits[bits], float(grid.ratios[ratio]))
        if cell not in found:
            raise ValueError(
                f"the noise lacks bits {name_of(cell[0])} at ratio {cell[1]:g}; measure it with these, too"
            )
        made[bits, ratio] = found[cell]
    return made


def _of_items(grid: Grid, noise: Mapping[str, Any]) -> Floats:
    """Return the attention that moves in each item, float64[n_items, n_bits, n_ratios], NaN where it is not told."""
    told = noise["parameters"]
    own = (("bits", list(grid.bits)), ("ratios", grid.ratios.tolist()))
    for name, wanted in own:
        if lacking := [one for one in wanted if one not in told[name]]:
            raise ValueError(
                f"the noise of its items lacks {name} {lacking[0]!r}; measure it with these, too"
            )
    bits, ratios = ([told[name].index(one) for one in wanted] for name, wanted in own)
    by_id = {row["id"]: np.array(row["moved"])[np.ix_(bits, ratios)] for row in noise.get("items", ())}
    nowhere = np.full(grid.kept.shape, np.nan)
    return np.stack([by_id.get(name, nowhere) for name in grid.ids])


def tells_sentence(found: Auc) -> str:
    """Return how well the attention moved tells which items fail."""
    what = f"{found.metric}: which items fail is told by the attention that their question reads elsewhere"
    if np.isnan(found.auc.value):
        return f"{what}: unknown, no cell has 5 that fail and 5 that hold."
    ends = f"[{found.auc.low:.2f}, {found.auc.high:.2f}]"
    return f"{what} with AUC {found.auc.value:.2f} {ends} ({many(found.cells, 'cell')}, {many(found.items, 'item')})."
