"""What a sweep left behind: its cells, by size, as curves."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph import plot
from routegraph._version import __version__
from routegraph.files import holds_else, open_cells
from routegraph.schema import read_document
from routegraph.sim import store
from routegraph.sim.observables import observables
from routegraph.sim.parameters import Parameters
from routegraph.sim.store import Cell, DamagedCellError
from routegraph.stats.intervals import standard_error
from routegraph.survival import check_ratios
from routegraph.tables import Grid, Page, Shown, many, words
from routegraph.text import drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "routegraph sweep"
SCALES = ("n", "L", "M", "L/ln n")
_COLOURS = [colour for name, colour in plot.COLOURS.items() if name not in ("black", "yellow")]
_SIZES = ("n_tokens", "n_layers", "n_heads")


@dataclass(frozen=True, eq=False, repr=False)
class SweepResult(Shown):
    """Cells of a sweep, sorted by size.

    Attributes
    ----------
    cells : tuple of Cell
    replicates : int
        Replicates that every cell has.
    damaged : tuple of str
        What was wrong with the cell files that were skipped.
    """

    cells: tuple[Cell, ...]
    replicates: int
    damaged: tuple[str, ...] = ()

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""
        return self.cells[0].seed

    @property
    def groups(self) -> tuple[tuple[Cell, ...], ...]:
        """Cells of the same parameters; more than one where the policy is not nested (a cell a ratio)."""
        found: dict[int, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.number, []).append(cell)
        return tuple(tuple(group) for group in found.values())

    def varied(self) -> dict[str, list[Any]]:
        """Return the parameters that differ between cells, with their values."""
        told = [store.describe(group[0].parameters) for group in self.groups]
        for row in told:
            row |= {f"settings.{name}": value for name, value in row.pop("settings").items()}
        names = dict.fromkeys(name for row in told for name in row)
        values = {name: [row.get(name) for row in told] for name in names}
        return {name: listed for name, listed in values.items() if any(v != listed[0] for v in listed)}

    def where(self, **chosen: Any) -> SweepResult:
        """Return the cells with the given parameters (settings by their names).

        Raises
        ------
        ValueError
            If no cell has them; the values there are named.
        """
        kept = self.cells
        for name, value in chosen.items():
            found = {cell.name: _value(cell.parameters, name) for cell in kept}
            kept = tuple(cell for cell in kept if found[cell.name] == value)
            if not kept:
                choices = ", ".join(sorted({str(v) for v in found.values()}))
                raise ValueError(f"no cell of the sweep has {name} = {value!r}; choose from: {choices}")
        return replace(self, cells=kept, replicates=min(cell.replicates for cell in kept))

    def sizes(self, scale: str = "n") -> NDArray[np.float64]:
        """Return the size of each group of cells, float64[S].

        Parameters
        ----------
        scale : {"n", "L", "M", "L/ln n"}
            Cache rows, layers, slots of a token (layers * heads), or layers over ln(rows).
        """
        if scale not in SCALES:
            raise ValueError(f"unknown scale {scale!r}; choose from: {', '.join(SCALES)}")
        shapes = np.array([group[0].parameters.shape for group in self.groups], dtype=float)
        layers, heads, tokens = shapes.T
        made = {"n": tokens, "L": layers, "M": layers * heads, "L/ln n": layers / np.log(tokens)}
        return np.asarray(made[scale])

    def natural_scale(self, observable: str) -> str:
        """Return the scaling variable theory suggests for what varies here.

        GER lives on the number of slots M; reach with residual edges on L / ln n where both vary; without
        residual edges, depth is the size.
        """
        varied = self.varied()
        if "n_layers" in varied and "n_tokens" in varied:
            return "L/ln n" if self.cells[0].parameters.residual else "L"
        if "n_heads" in varied or ("n_layers" in varied and observable.startswith(("ger", "eviction"))):
            return "M"
        return "L" if "n_layers" in varied else "n"

    def by_size(self, scale: str = "n") -> SweepResult:
        """Return the same cells sorted by size.

        Raises
        ------
        ValueError
            If they differ in more than their size; what to choose is named.
        """
        varied = self.varied()
        sizes = self.sizes(scale)
        clashing = [name for name in varied if name not in _SIZES]
        if not clashing and len(set(sizes.tolist())) < len(sizes):
            clashing = list(varied)
        if clashing:
            told = "; ".join(f"{n} takes {', '.join(map(str, dict.fromkeys(varied[n])))}" for n in clashing)
            raise ValueError(
                f"cells with clashing parameters for the scale {scale!r}: {told}; choose one of each"
            )
        groups = self.groups
        order = np.argsort(sizes, kind="stable")
        return replace(self, cells=tuple(cell for i in order for cell in groups[i]))

    def curves(self, observable: str, ratios: float | Iterable[float]) -> NDArray[np.float64]:
        """Return an observable of every replicate of every group of cells, in their order, float64[S, R, A].

        Raises
        ------
        ValueError
            If the observable or a ratio is unknown.
        """
        grid = check_ratios(ratios)
        observe = observables[observable]
        return np.stack([self._group(group, observe, grid) for group in self.groups])

    def _group(self, group: Sequence[Cell], observe: Any, grid: list[float]) -> NDArray[np.float64]:
        if group[0].ratio is None:
            levels = group[0].parameters.levels_of().levels(grid)
            blocks = [observe(sample, levels) for sample in group[0].samples(self.replicates)]
            return np.asarray(np.concatenate(blocks))
        known = {cell.ratio: cell for cell in group}
        for ratio in grid:
            if ratio not in known:
                taken = ", ".join(f"{r:g}" for r in sorted(r for r in known if r is not None))
                raise ValueError(
                    f"policy {group[0].parameters.policy!r} was swept at {taken} only, not {ratio:g}"
                )
        # Beyond its one step a survival of one ratio is at level 1.
        columns = [
            np.concatenate([observe(s, [1]) for s in known[ratio].samples(self.replicates)]) for ratio in grid
        ]
        return np.concatenate(columns, axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return what was swept as JSON-ready values."""
        rows = [
            {"file": c.name, "replicates": c.replicates, "ratio": c.ratio, **store.describe(c.parameters)}
            for c in self.cells
        ]
        return {"version": __version__, "seed": self.seed, "replicates": self.replicates, "cells": rows}

    def brief(self) -> str:
        """Return how much was swept, and what varies."""
        varied = [
            f"{name} {', '.join(map(str, dict.fromkeys(values)))}" for name, values in self.varied().items()
        ]
        size = f"{many(len(self.cells), 'cell')}, {many(self.replicates, 'replicate')} each, seed {self.seed}"
        return f"{size}; {'; '.join(varied)}" if varied else size

    def records(self) -> list[dict[str, Any]]:
        """Return mean and standard error of every observable, a row for the cells of the same parameters and ratio.

        At 100 ratios from 0 to .99; where the policy is not nested, at those that were swept.
        """
        swept = sorted({cell.ratio for cell in self.cells if cell.ratio is not None})
        ratios = swept or np.linspace(0, 0.99, 100).round(2).tolist()
        rows = [
            {**{name: values[i] for name, values in self.varied().items()}, "ratio": ratio}
            for i in range(len(self.groups))
            for ratio in ratios
        ]
        for name in observables:
            samples = self.curves(name, ratios)
            mean = samples.mean(axis=1).ravel()
            error = np.concatenate([standard_error(one) for one in samples])
            for row, value, spread in zip(rows, mean.tolist(), error.tolist(), strict=True):
                row |= {f"{name}.mean": value, f"{name}.stderr": spread}
        return rows

    def page(self) -> Page:
        """Return what was swept as a table: a row for the cells of the same parameters."""
        varied = self.varied()
        rows = [
            [group[0].name, *(str(values[i]) for values in varied.values()), str(group[0].replicates)]
            for i, group in enumerate(self.groups)
        ]
        title = (
            f"{many(len(self.cells), 'cell')}, {many(self.replicates, 'replicate')} each, seed {self.seed}"
        )
        told = [f"{len(self.damaged)} damaged cell files are left out."] if self.damaged else []
        return Page((Grid(["cell", *varied, "replicates"], rows, title=title), words(*told)))

    def plot(
        self, ax: Any = None, observable: str = "reach_fraction", ratios: Iterable[float] | None = None
    ) -> Figure:
        """Draw an observable against the ratio, a curve for the cells of the same parameters.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; a new figure by default.
        observable : str
            See ``routegraph list``.
        ratios : iterable of float, optional
            By default 201 ratios, or, where the policy is not nested, those that were swept. Bands are one standard
            error over replicates.
        """
        nested = self.cells[0].ratio is None
        swept = sorted({cell.ratio for cell in self.cells if cell.ratio is not None})
        largest = max(cell.parameters.n_tokens for cell in self.cells)
        grid = list(ratios) if ratios is not None else swept
        if ratios is None and nested:
            grid = np.linspace(0, 1 - 1 / largest, 201).tolist()
        curves, varied = self.curves(observable, grid), self.varied()
        with plot.style():
            ax = plot.figure()[1] if ax is None else ax
            for i, samples in enumerate(curves):
                told = ", ".join(f"{name.replace('_', ' ')} {values[i]}" for name, values in varied.items())
                error = standard_error(samples)
                colour = _COLOURS[i % len(_COLOURS)]
                plot.band(
                    ax,
                    np.array(grid),
                    samples.mean(axis=0),
                    error,
                    color=colour,
                    label=drawn(told.replace("_", " ")) or None,
                )
            said = textwrap.fill(observables.summary(observable).rstrip("."), 40)
            ax.set(xlabel="compression ratio", ylabel=said)
            plot.legend(ax)
        made: Figure = ax.figure
        return made

    def save(self, out: str | os.PathLike[str]) -> None:
        """Write the cells into a folder, as `sweep` does; cells that are there already are left as they are.

        Raises
        ------
        ValueError
            If the folder holds something else, or a sweep of another seed.
        """
        folder = Path(out)
        cells = open_folder(folder)
        if any(cells.glob("*.npz")) and load_sweep(folder).seed != self.seed:
            raise ValueError(f"folder {str(out)!r} holds a sweep of another seed than {self.seed}")
        for cell in self.cells:
            if not (cells / cell.name).exists():
                store.write_cell(cells, cell)

    @staticmethod
    def load(out: str | os.PathLike[str], skip_damaged: bool = False) -> SweepResult:
        """Read the folder of a sweep, of this or an earlier version; see `load_sweep`."""
        return load_sweep(out, skip_damaged)


def _value(parameters: Parameters, name: str) -> Any:
    told = store.describe(parameters)
    return told.get(name, told["settings"].get(name.removeprefix("settings.")))


def open_folder(out: Path) -> Path:
    """Return the folder of a sweep's cell files, made if missing; ValueError if `out` holds something else."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"cannot write a sweep into {str(out)!r}: it is a file")
    if not out.parent.is_dir():
        raise ValueError(f"cannot write {str(out)!r}: folder {str(out.parent)!r} does not exist")

    def check() -> None:
        if out.is_dir() and (holds_else(out) or not _is_sweep(out / "run.json")):
            raise ValueError(f"{str(out)!r} is not a sweep: choose an empty or a new folder")

    return open_cells(out, check, {"format": FORMAT, "runs": []})


def _is_sweep(run: Path) -> bool:
    """Return whether a run.json is that of a sweep, or not there yet."""
    if not run.exists():
        return True
    try:
        document = read_document(run)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def load_sweep(folder: str | os.PathLike[str], skip_damaged: bool = False) -> SweepResult:
    """Read all cells of a sweep's folder.

    Parameters
    ----------
    folder : path
        `out` of a sweep.
    skip_damaged : bool
        Leave damaged files out (their names are in `SweepResult.damaged`) instead of stopping.

    Raises
    ------
    ValueError
        If the folder is not a sweep, empty, mixes seeds, or holds a damaged file.
    """
    inside = Path(folder) / "cells"
    if not (Path(folder) / "run.json").is_file() or not inside.is_dir():
        raise ValueError(f"{str(folder)!r} is not a sweep: it has no run.json and no cells")
    cells, damaged = [], []
    for path in sorted(inside.glob("*.npz")):
        try:
            cells.append(store.read_cell(path))
        except DamagedCellError as error:
            if not skip_damaged:
                raise ValueError(f"{error}; remove it, or ask to skip damaged files") from None
            damaged.append(str(error))
    if not cells:
        raise ValueError(f"sweep {str(folder)!r} holds no finished cell")
    seeds = sorted({cell.seed for cell in cells})
    if len(seeds) > 1:
        raise ValueError(f"cells of {str(folder)!r} clash: seeds {', '.join(map(str, seeds))}")
    cells.sort(key=lambda cell: (*cell.parameters.shape, cell.ratio or 0.0))
    return SweepResult(tuple(cells), min(cell.replicates for cell in cells), tuple(damaged))
