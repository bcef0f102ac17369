"""The command `certify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from routegraph.cli.options import (
    Dask,
    Device,
    Dtype,
    Items,
    Json,
    Out,
    Plot,
    Presses,
    Ratios,
    SkipDamaged,
    Threads,
    Workers,
    count,
    share,
    takes,
    with_presses,
)
from routegraph.cli.pace import progress
from routegraph.cli.terminal import check_outputs, console, draw, hand_over, note
from routegraph.options import options as declared
from routegraph.validate.plan import Plan

if TYPE_CHECKING:
    from routegraph.validate.measure.result import Measured
    from routegraph.validate.predict.result import Predicted
    from routegraph.validate.work import Work


@takes(Plan)
def certify(
    cells: Annotated[
        str,
        typer.Argument(
            metavar="CELLS|MODEL", help="Folder written by measure; with --prompts, a model to ask first."
        ),
    ],
    predict: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder written by predict of the same prompts: certify a ratio for each prompt, too.",
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Policies to choose from; all that were measured by default, chunk and adakv with --prompts.",
        ),
    ] = None,
    risk: Annotated[float, share("Share of prompts that may break, in (0, 1).")] = 0.05,
    confidence: Annotated[float, share("Chance that the guarantee holds, in (0, 1).")] = 0.9,
    against: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What breaks: gold, a right answer that is right no more; own, any reply that states something "
            "else than with the full cache.",
        ),
    ] = "gold",
    tokens: Annotated[
        int,
        count(
            "Say how much cache is left of a context of so many tokens, by default the mean of those measured."
        ),
    ] = 0,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Measure and predict these first: a file of prompts, a task, or 'bundled'; repeatable. What says "
            "how to ask goes with it.",
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder that keeps what is measured and predicted; a killed run goes on."
        ),
    ] = None,
    press: Presses = None,
    ratio: Ratios = None,
    tries: Annotated[
        int | None, count("Ratios of every policy that are tried, 2 by default: see predict.")
    ] = None,
    n: Items = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    threads: Threads = None,
    workers: Workers = 1,
    dask: Dask = None,
    skip_damaged: SkipDamaged = False,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
    **options: Any,
) -> None:
    """Say which ratio to deploy, with a guarantee.

    With a dial, --out FILE keeps that as well: in Python, load_dial(FILE).press() is a press of kvpress's.
    """
    check_outputs(plot, out)
    from routegraph.validate.certify.memory import cache_row_at_hand
    from routegraph.validate.certify.run import certify as certified
    from routegraph.validate.certify.run import check_against
    from routegraph.validate.work import Work

    check_against(against)
    if prompts:
        if predict is not None or into is None:
            raise ValueError(
                "--prompts measures and predicts into a folder of its own: give --into DIR, and no --predict"
            )
        predicted: Predicted | None
        asked = {"ratios": ratio, "tries": tries, "dtype": dtype, "device": device, "n": n, **options}
        work = Work(workers, dask, threads)
        measured, predicted = _ask(
            cells, prompts, into, policy, press, risk, confidence, work, skip_damaged, **asked
        )
        policy = None
    else:
        given = {"into": into, "press": press, "ratio": ratio, "tries": tries, "n": n, "threads": threads}
        seen = [name for name, value in given.items() if value is not None and value != []]
        changed = {
            "dtype": dtype != "float32",
            "device": device != "cpu",
            "workers": workers != 1,
            "dask": dask,
        }
        seen += [name for name, value in changed.items() if value]
        seen += [
            one.name for one in declared(Plan) if one.name != "seed" and options[one.name] != one.default
        ]
        if seen:
            flag = seen[0].replace("_", "-")
            raise ValueError(f"--{flag} says how to ask prompts, and goes with --prompts FILE")
        measured, predicted = _load(Path(cells), predict, skip_damaged)
    row_bytes = 0
    if tokens > 0 and not cache_row_at_hand(measured.settings):
        from routegraph.validate.models.load import cache_row

        settings = measured.settings
        row_bytes = cache_row(settings["model"], str(settings.get("dtype", "float32")))
    found = certified(
        measured,
        predicted,
        policy_names=policy,
        risk=risk,
        confidence=confidence,
        against=against,
        tokens=tokens,
        row_bytes=row_bytes,
        seed=options["seed"],
    )
    if plot is not None:
        draw(found.plot(), plot)
    if hand_over(found.to_dict(), json_, out):
        found.page().show(console())


def _load(cells: Path, predict: Path | None, skip_damaged: bool) -> tuple[Measured, Predicted | None]:
    """Return what is in the folders."""
    from routegraph.validate.measure.result import Measured
    from routegraph.validate.predict.result import Predicted

    predicted = None if predict is None else Predicted.load(predict, skip_damaged)
    measured = Measured.load(cells, skip_damaged)
    if predicted is not None and skip_damaged:
        # A prompt whose prediction is left out is left out of what was measured as well.
        unpredicted = [name for name in measured.ids if name not in predicted.ids]
        if unpredicted:
            note(f"left out as well, measured and not predicted: {', '.join(unpredicted)}")
            measured = measured.only([name in predicted.ids for name in measured.ids])
    return measured, predicted


def _ask(
    model: str,
    files: list[str],
    into: Path,
    policy: list[str] | None,
    press: list[str] | None,
    risk: float,
    confidence: float,
    work: Work,
    skip_damaged: bool,
    *,
    ratios: list[float] | None,
    tries: int | None,
    dtype: str,
    device: str,
    n: int | None,
    **options: Any,
) -> tuple[Measured, Predicted]:
    """Measure and predict prompts into a folder; whatever can be refused is, before a model is loaded."""
    from routegraph.options import check_whole
    from routegraph.tables import many
    from routegraph.validate.certify import ask
    from routegraph.validate.measure.cells import PREDICTION, check_folder, check_place
    from routegraph.validate.measure.run import planned
    from routegraph.validate.prompts.prompt import counted_once
    from routegraph.validate.tasks import load_tasks

    tries = ask.CERTIFIED_TRIES if tries is None else tries
    check_whole("tries", tries, 0)
    names = with_presses(policy or ask.CERTIFIED_POLICIES, press)
    asked: dict[str, Any] = {"policy_names": names, "ratios": ratios or ask.CERTIFIED_RATIOS, **options}
    plan = planned(keep=(), **asked)
    prompts = counted_once(load_tasks(files, n, options["seed"]))
    ask.check_enough(len(prompts), len(plan.policy_names), risk, confidence)
    check_place(into)
    if into.is_dir():
        check_folder(into / "measured")
        check_folder(into / "predicted", PREDICTION)
    work.use_threads()
    with progress("prompts") as advance:
        loaded = work.load(model, dtype=dtype, device=device, progress=advance)
        into.mkdir(exist_ok=True)
        found = ask.measure_and_predict(
            loaded,
            prompts,
            into,
            tries=tries,
            work=work,
            progress=advance,
            skip_damaged=skip_damaged,
            **asked,
        )
    note(f"measured and predicted {many(len(found[0].ids), 'prompt')} into {into}")
    return found
