"""The commands `sweep`, `fit` and `replay`; imported by `routegraph.cli`, which owns the app."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from routegraph.cli import Json, Out, Plot, _count, _real, _whole, app
from routegraph.terminal import compiling, console, fail, note, parse_settings, print_json, progress


def _counts(help: str) -> Any:
    return typer.Option(parser=_whole, metavar="N", help=help + " Repeatable.")


def _shares(help: str) -> Any:
    return typer.Option(parser=_real, metavar="X", help=help + " Repeatable.")


def _names(help: str) -> Any:
    return typer.Option(metavar="NAME", help=help + " Repeatable.")


@app.command()
def sweep(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the cell files; resumes what is there.")
    ],
    n_tokens: Annotated[list[int] | None, _counts("Cache rows.")] = None,
    n_layers: Annotated[list[int] | None, _counts("Layers.")] = None,
    n_heads: Annotated[list[int] | None, _counts("KV heads a layer.")] = None,
    degree: Annotated[list[int] | None, _counts("Reads of each (layer, KV head, token).")] = None,
    ensemble: Annotated[list[str] | None, _names("Where the reads fall.")] = None,
    policy: Annotated[list[str] | None, _names("Which rows are evicted first.")] = None,
    score_correlation: Annotated[list[float] | None, _shares("Correlation of a token's scores.")] = None,
    prune: Annotated[list[str] | None, _names("columns or decode.")] = None,
    residual: Annotated[bool, typer.Option(help="Let a token carry itself down a layer.")] = True,
    n_answers: Annotated[list[int] | None, _counts("Answer tokens drawn in each replicate.")] = None,
    group_size: Annotated[list[int] | None, _counts("Query heads per KV head.")] = None,
    profile: Annotated[list[str] | None, _names("Agreement of heads by depth.")] = None,
    correlation_floor: Annotated[list[float] | None, _shares("Share common to all layers.")] = None,
    correlation_length: Annotated[list[float] | None, _shares("Layers over which the rest decays.")] = None,
    read_agreement: Annotated[list[float] | None, _shares("How far agreeing heads read alike.")] = None,
    attention_tie: Annotated[list[float] | None, _shares("Correlation of scores with reads.")] = None,
    answer_shift: Annotated[list[float] | None, _shares("Shift of the answer tokens' scores.")] = None,
    source: Annotated[list[str] | None, _names("Where routes start: query, or row.")] = None,
    directed: Annotated[
        bool, typer.Option("--directed/--undirected", help="Routes go from query to key only.")
    ] = True,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Parameter of ensemble, policy or profile."),
    ] = None,
    together: Annotated[
        str, typer.Option(metavar="NAME,NAME", help="Options whose values are walked in step, not crossed.")
    ] = "",
    ratio: Annotated[
        list[float] | None,
        typer.Option(
            parser=_real, metavar="RATIO", help="For policies that are not nested only; repeatable."
        ),
    ] = None,
    replicates: Annotated[int, _count("Replicates a cell.")] = 32,
    seed: Annotated[int, _count("Seed of all random numbers.")] = 0,
    workers: Annotated[int, _count("Threads, or processes.")] = 1,
    processes: Annotated[bool, typer.Option("--processes", help="Processes instead of threads.")] = False,
    dask: Annotated[
        str | None, typer.Option(metavar="local|ADDRESS", help="Run on dask; ADDRESS is tcp://HOST:PORT.")
    ] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Compute damaged cell files again.")
    ] = False,
    json_: Json = False,
) -> None:
    """Simulate a grid of cells; options with several values are crossed. A killed sweep resumes."""
    given: dict[str, Any] = {
        "n_tokens": n_tokens,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "degree": degree,
        "ensemble": ensemble,
        "policy": policy,
        "score_correlation": score_correlation,
        "prune": prune,
        "n_answers": n_answers,
        "group_size": group_size,
        "profile": profile,
        "correlation_floor": correlation_floor,
        "correlation_length": correlation_length,
        "read_agreement": read_agreement,
        "attention_tie": attention_tie,
        "answer_shift": answer_shift,
        "source": source,
    }
    settings = parse_settings(setting or [])
    from routegraph.sim.sweep import sweep as run_sweep

    with progress("sweep", compiling()) as advance:
        result = run_sweep(
            out,
            replicates=replicates,
            seed=seed,
            ratio=ratio or None,
            settings=settings,
            together=[name.strip().replace("-", "_") for name in together.split(",") if name.strip()],
            workers=workers,
            processes=processes,
            dask=dask,
            skip_damaged=skip_damaged,
            progress=advance,
            residual=residual,
            directed=directed,
            **{name: values for name, values in given.items() if values},
        )
    for sentence in result.damaged:
        note(f"computed again: {sentence}")
    if json_:
        print_json(result.to_dict())
        return
    from routegraph.views import Grid

    varied = result.varied()
    rows = [
        [group[0].name, *(str(values[i]) for values in varied.values()), str(group[0].replicates)]
        for i, group in enumerate(result.groups)
    ]
    title = f"{len(result.cells)} cells in {out}, {replicates} replicates each, seed {seed}"
    console().print(Grid(["cell", *varied, "replicates"], rows, title=title).to_rich())


@app.command()
def fit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a sweep.")],
    observable: Annotated[str, typer.Option(metavar="NAME", help="What is read off; see `list`.")],
    method: Annotated[str, typer.Option(metavar="NAME", help="half, peak, binder or collapse.")] = "half",
    scale: Annotated[
        str | None, typer.Option(metavar="NAME", help="n, L, M or 'L/ln n'; by theory where not given.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only cells with this parameter; repeatable."),
    ] = None,
    low: Annotated[
        float | None, typer.Option("--from", parser=_real, metavar="RATIO", help="Smallest ratio.")
    ] = None,
    high: Annotated[
        float | None, typer.Option("--to", parser=_real, metavar="RATIO", help="Largest ratio.")
    ] = None,
    points: Annotated[int, _count("Ratios between them.")] = 81,
    zeta_over_nu: Annotated[
        float | None, typer.Option(parser=_real, metavar="X", help="Known exponent of a collapse.")
    ] = None,
    correction: Annotated[
        bool, typer.Option("--correction", help="Collapse with a correction to scaling.")
    ] = False,
    resamples: Annotated[int, _count("Bootstrap resamples.")] = 400,
    seed: Annotated[int, _count("Seed of the bootstrap.")] = 0,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave damaged cell files out.")
    ] = False,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
) -> None:
    """Fit a critical ratio to a sweep, with intervals, evidence and warnings."""
    from routegraph import files
    from routegraph.plot import check_figure_path

    if plot is not None:
        check_figure_path(plot)
    if out is not None:
        files.check_writable(out)
    chosen = parse_settings(where or [])
    from routegraph.sim.sweep_fit import fit_sweep

    found, damaged = fit_sweep(
        folder,
        observable,
        method=method,
        scale=scale,
        where=chosen,
        low=low,
        high=high,
        points=points,
        zeta_over_nu=zeta_over_nu,
        correction=correction,
        resamples=resamples,
        seed=seed,
        skip_damaged=skip_damaged,
    )
    for sentence in damaged:
        note(f"skipped: {sentence}")
    if out is not None:
        found.save(out)
        note(f"wrote {out}")
    if plot is not None:
        from routegraph.plot import save

        save(found.plot(), plot)
        note(f"drew {plot}")
    if json_:
        print_json(found.to_dict())
    else:
        typer.echo(found.summary())


@app.command()
def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A cell file of a sweep, or a result of simulate.")
    ],
    replicate: Annotated[int | None, _count("Which replicate; all by default.")] = None,
    json_: Json = False,
) -> None:
    """Rebuild what is in a file from its seeds: identical, or the first difference (exit status 1)."""
    from routegraph.sim.replay import replay as run_replay

    done, difference = run_replay(file, None if replicate is None else [replicate])
    if json_:
        print_json(
            {"file": file.name, "replicates": done, "identical": difference is None, "first": difference}
        )
    elif difference is None:
        typer.echo(f"identical: {done} replicate(s) of {file.name}")
    if difference is not None:
        raise typer.Exit(fail(f"not identical: {difference}", 1))
