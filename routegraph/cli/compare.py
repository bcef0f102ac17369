"""The commands `compare` and `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from routegraph.cli.options import Json, Out, Plot, Seed, method_help, real
from routegraph.cli.terminal import check_outputs, console, draw, hand_over, note


def compare(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="File written by extract.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=method_help("topk, adakv, chunk by default")),
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option(
            parser=real, metavar="RATIO", help="Ratios in [0, 1), at least 4; a dense grid by default."
        ),
    ] = None,
    eps: Annotated[
        list[float] | None,
        typer.Option(
            parser=real,
            metavar="X",
            help="Weight above which a read counts for reach; .01, .03, .1 by default; repeatable.",
        ),
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whose scores a cut alone (topk, ...) goes by; expected_attention by default.",
        ),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder written by measure on the same model: where answers fail."),
    ] = None,
    predict: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder written by predict on the same model: by which ratio answers are expected to break.",
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Half that is fitted to: every other prompt as they come, or shuffled by the seed, as it must be "
            "where prompts take turns in kind (alternate, random).",
        ),
    ] = "alternate",
    seed: Seed = 0,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
) -> None:
    """Compare eviction of a real model with theory and simulation."""
    check_outputs(plot, out)
    from routegraph.trace import Trace
    from routegraph.validate.compare import run as comparing
    from routegraph.validate.compare.failure import weights_of
    from routegraph.validate.compare.reach import EPS

    result = comparing.compare(
        Trace.load(trace),
        policy_names=policy or comparing.COMPARED_POLICIES,
        ratios=ratio or comparing.COMPARED_RATIOS,
        eps=eps or EPS,
        scorer=scorer,
        measured=measured,
        predicted=predict,
        weights=weights_of(trace),
        split=split,
        seed=seed,
    )
    if plot is not None:
        draw(result.plot(), plot)
    if hand_over(result.to_dict(), json_, out):
        result.page().show(console())


def report(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="File written by extract.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="HTML page to write.")],
    measured: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder of measure: the paper's claims are judged on all, and the trace's model stands beside; "
            "repeatable.",
        ),
    ] = None,
    probes: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Results of linear probes; repeatable.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write one self-contained HTML page on a trace.

    It has figures, tables, the paper's claims and definitions.
    """
    from routegraph import files

    files.check_writable(out)
    from routegraph.report import write_report
    from routegraph.trace import Trace
    from routegraph.validate.claims.judge import claims_of_files
    from routegraph.validate.compare.failure import mismatch, weights_of
    from routegraph.validate.compare.run import compare as run_comparison

    if probes and not measured:
        raise ValueError("--probes belongs to the claims: give --measured DIR, too")
    traces, weights = Trace.load(trace), weights_of(trace)
    judged, given = claims_of_files(measured, [trace], probes or (), seed) if measured else ([], [])
    beside = next((one for one in given if not mismatch(one.settings, traces, weights)), None)
    found = run_comparison(traces, measured=beside, weights=weights, seed=seed)
    write_report(out, None, found, judged, given, beside)
    note(f"wrote {out}")
