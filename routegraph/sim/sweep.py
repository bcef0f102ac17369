"""`sweep`: a grid of cells times replicates, resumable, over threads, processes or dask."""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routegraph import plugins
from routegraph._version import __version__
from routegraph.executors import as_done, check_address, executor
from routegraph.files import locked, note_run
from routegraph.memory import REPLICATES
from routegraph.options import check_seed, check_whole, options, takes
from routegraph.policies import is_nested, policies
from routegraph.schema import listing, read_document, record, table_of, text
from routegraph.sim import store
from routegraph.sim.ensembles import ensembles
from routegraph.sim.memory import check_memory
from routegraph.sim.parameters import Parameters, split_settings
from routegraph.sim.profiles import profiles
from routegraph.sim.run import run_replicate
from routegraph.sim.store import Cell, DamagedCellError, Packed
from routegraph.sim.sweep_result import SweepResult, load_sweep, open_folder
from routegraph.survival import check_ratios

__all__ = ["SweepResult", "grid_of", "load_sweep", "sweep"]

#: What is read of the run.json of a sweep.
RUNS = record({}, {"runs": listing(record({}, {"plugins": table_of(text)}))})

Report = Callable[[float, float, str], None]

_AXES = tuple(one.name for one in options(Parameters))


def grid_of(
    axes: Mapping[str, Any],
    settings: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    together: Sequence[str] = (),
) -> list[Parameters]:
    """Return the cells of a grid, each once.

    Parameters
    ----------
    axes : mapping
        Fields of `Parameters`: a value, or a list of values.
    settings : mapping or sequence of mappings, optional
        Further parameters of ensemble, policy and profile; a list of them is one more axis.
    together : sequence of str
        Axes walked in step (lists of one length) instead of crossed.

    Raises
    ------
    ValueError
        If a name is unknown, a list empty, or lists that go together are of different lengths.
    """
    for name in axes:
        if name not in _AXES:
            raise ValueError(f"unknown parameter {name!r}; choose from: {', '.join(_AXES)}")
    listed = {name: _listed(name, value) for name, value in axes.items()}
    lengths = {name: len(listed.get(name, [])) for name in together}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"axes that go together need as many values each, got {told}")
    step = [dict(zip(together, row, strict=True)) for row in zip(*(listed[n] for n in together), strict=True)]
    crossed = [[{name: v} for v in values] for name, values in listed.items() if name not in together]
    chosen = [settings or {}] if settings is None or isinstance(settings, Mapping) else list(settings)
    made: dict[str, Parameters] = {}
    for parts in itertools.product(*([step] if together else []), *crossed):
        row = {name: value for part in parts for name, value in part.items()}
        owners = {
            name: row.get(name, getattr(Parameters, name)) for name in ("ensemble", "policy", "profile")
        }
        for setting in chosen:
            everything: dict[str, Any] = {**row, **split_settings(**owners, settings=setting)}
            parameters = Parameters(**everything)
            made.setdefault(store.canonical(parameters), parameters)
    return list(made.values())


def _listed(name: str, value: Any) -> list[Any]:
    values = (
        [store.plain(v) for v in value] if isinstance(value, (list, tuple, range, np.ndarray)) else [value]
    )
    if not values:
        raise ValueError(f"{name} needs at least one value")
    return values


def compute(
    parameters: Parameters,
    seed: int,
    ratio: float | None,
    first: int,
    last: int,
    sources: Sequence[plugins.Source] = (),
) -> Packed:
    """Run replicates first..last-1 of a cell: one task of a sweep. `sources`: plug-in files of the sender."""
    plugins.ensure(sources)
    number = store.cell_number(parameters)
    return store.join(
        [store.pack(run_replicate(parameters, seed, number, r, ratio)) for r in range(first, last)]
    )


@takes(Parameters, many=True)
def sweep(
    out: str | os.PathLike[str] | None = None,
    *,
    replicates: int = 32,
    seed: int = 0,
    ratio: float | Iterable[float] | None = None,
    settings: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    together: Sequence[str] = (),
    workers: int = 1,
    processes: bool = False,
    dask: str | None = None,
    skip_damaged: bool = False,
    progress: Report | None = None,
    **axes: Any,
) -> SweepResult:
    """Simulate every cell of a grid of parameters.

    Parameters
    ----------
    out : path, optional
        Folder of the cell files, made if missing. What it already holds is not computed again: a killed sweep
        resumes, and cells and replicates can be added. In memory only by default.
    replicates, seed : int
        Replicates a cell, and the seed they come from (one a folder).
    ratio : float or sequence of float, optional
        Only for policies that are not nested, which need a run a ratio.
    settings, together
        See `grid_of`.
    workers : int
        Threads, or processes; the files do not depend on it.
    processes : bool
        Processes instead of threads.
    dask : str, optional
        "local", or the address of a scheduler; see `routegraph.executors`. Workers know what installed
        plug-ins register, and what was loaded here by `routegraph.plugins.load` (``--load``).
    skip_damaged : bool
        Compute damaged cell files again instead of stopping at the first.
    progress : function of (percent done, 100, text), optional
        Percent of the work, by its estimated cost.
    **axes

    Returns
    -------
    SweepResult
        The cells asked for, with the replicates asked for.

    Raises
    ------
    ValueError
        If a parameter is bad, `out` holds another seed's sweep or something else, or a cell file is damaged; if a
        dask scheduler does not answer or has workers of another version.
    OSError
        If the disk is full, or worker processes die again and again; finished cells are kept.

    Notes
    -----
    The axes are the fields of `routegraph.sim.parameters.Parameters`, each a value or a list of values.

    Examples
    --------
    >>> found = sweep(n_tokens=[64, 128], n_layers=4, n_heads=2, replicates=4)
    >>> found.curves("reach_fraction", [0.5, 0.9]).shape
    (2, 4, 2)
    """
    check_whole("replicates", replicates, low=1, high=REPLICATES)
    check_whole("workers", workers, low=1)
    check_seed(seed)
    check_address(dask)
    grid = None if ratio is None else check_ratios(ratio)
    cells: list[tuple[Parameters, float | None]] = []
    for parameters in grid_of(axes, settings, together):
        check_memory(parameters, replicates, 1 if dask is not None else workers)
        if is_nested(parameters.policy):
            cells.append((parameters, None))
        elif grid is None:
            raise ValueError(f"policy {parameters.policy!r} is not nested: name the ratios to sweep")
        else:
            cells += [(parameters, at) for at in grid]
    if grid is not None and all(at is None for _, at in cells):
        raise ValueError("ratio is for policies that are not nested; of the others a sweep holds all ratios")
    loaded = plugins.fingerprints(
        registry[name]
        for parameters, _ in cells
        for registry, name in (
            (policies, parameters.policy),
            (ensembles, parameters.ensemble),
            (profiles, parameters.profile),
        )
    )
    folder = None if out is None else open_folder(Path(out))
    if out is not None:
        _check_plugins(Path(out), loaded)
    found: dict[str, Cell] = {}
    damaged: list[str] = []
    for parameters, at in cells:
        path = folder / store.cell_name(parameters, at) if folder else None
        if path is None or not path.exists():
            continue
        try:
            cell = store.read_cell(path)
        except DamagedCellError as error:
            if not skip_damaged:
                raise ValueError(f"{error}; remove it, or ask to skip damaged files") from None
            damaged.append(str(error))
            continue
        if cell.seed != seed:
            raise ValueError(f"folder {str(out)!r} holds a sweep of seed {cell.seed}, not {seed}")
        found[path.name] = cell
    if out is not None:
        asked = {"axes": axes, "settings": settings, "together": list(together), "ratio": grid}
        how = {"replicates": replicates, "workers": workers, "processes": processes, "dask": dask}
        _note_run(Path(out), {"seed": seed, **asked, **how, **({"plugins": loaded} if loaded else {})})
    _compute_all(cells, found, replicates, int(seed), folder, workers, processes, dask, progress)
    done = tuple(found[store.cell_name(parameters, at)] for parameters, at in cells)
    return SweepResult(done, replicates, tuple(damaged))


def _compute_all(
    cells: list[tuple[Parameters, float | None]],
    found: dict[str, Cell],
    replicates: int,
    seed: int,
    folder: Path | None,
    workers: int,
    processes: bool,
    dask: str | None,
    progress: Report | None,
) -> None:
    """Run what is missing, the dearest cells first, and write each cell when its last replicate is there."""
    tasks: list[tuple[float, Parameters, float | None, int, int]] = []
    missing: dict[str, int] = {}
    for parameters, at in cells:
        name = store.cell_name(parameters, at)
        have = found[name].replicates if name in found else 0
        cost = float(np.prod(parameters.shape)) * (1 + parameters.reads)
        block = max(1, min(64, int(2e8 / cost)))
        for first in range(have, replicates, block):
            last = min(first + block, replicates)
            tasks.append((cost * (last - first), parameters, at, first, last))
            missing[name] = missing.get(name, 0) + 1
    if not tasks:
        return
    tasks.sort(key=lambda task: -task[0])
    total, spent, n_cells = sum(task[0] for task in tasks), 0.0, len(missing)
    parts: dict[str, dict[int, Packed]] = {name: {} for name in missing}
    sources = plugins.loaded()
    calls = ((task, compute, (task[1], seed, *task[2:], sources)) for task in tasks)
    ahead = 1 if workers == 1 and dask is None else 4 * max(workers, 16 if dask else 1)
    with executor(workers, processes, dask) as pool:
        for (cost, parameters, at, first, _last), part in as_done(pool, calls, ahead):
            name = store.cell_name(parameters, at)
            parts[name][first] = part
            spent += cost
            missing[name] -= 1
            if missing[name] == 0:
                before = [found[name].packed] if name in found else []
                packed = store.join([*before, *(parts[name][k] for k in sorted(parts[name]))])
                found[name] = Cell(parameters, seed, at, packed)
                del parts[name], missing[name]
                if folder is not None:
                    _keep(folder, found[name])
            if progress is not None:
                progress(100 * spent / total, 100, f"cells {n_cells - len(missing)}/{n_cells}")


def _keep(folder: Path, cell: Cell) -> None:
    """Write a cell, unless another process that shares the folder has written more of its replicates."""
    with locked(folder.parent):
        try:
            more = store.read_cell(folder / cell.name).replicates > cell.replicates
        except ValueError:  # there is none, or a damaged one
            more = False
        if not more:
            store.write_cell(folder, cell)


def _check_plugins(out: Path, loaded: Mapping[str, str]) -> None:
    """Refuse a folder whose cells were computed with another text of a loaded file."""
    path = out / "run.json"
    if not loaded or not path.is_file():
        return
    for run in read_document(path, RUNS, "run.json of a sweep").get("runs", ()):
        for name, known in run.get("plugins", {}).items():
            if loaded.get(name, known) != known:
                raise ValueError(
                    f"{str(out)!r} holds cells computed with another text of {name!r}; choose a new folder"
                )


def _note_run(out: Path, asked: dict[str, Any]) -> None:
    """Add this run to run.json: everything that the cell files must not hold."""
    host = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.platform()}
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    note_run(out, {"version": __version__, "started": when, **host, **_json_ready(asked)})


def _json_ready(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _json_ready(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, range, np.ndarray)):
        return [_json_ready(item) for item in value]
    return store.plain(value)
