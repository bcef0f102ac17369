"""The command `certify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from routegraph.cli.options import Json, Out, Plot, Seed, count, share
from routegraph.cli.terminal import check_outputs, console, draw, hand_over


def certify(
    cells: Annotated[Path, typer.Argument(metavar="CELLS", help="Folder written by measure.")],
    predict: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder written by predict of the same prompts: certify a ratio for each prompt, too.",
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Policies to choose from; all that were measured by default."),
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
    seed: Seed = 0,
    json_: Json = False,
    plot: Plot = None,
    out: Out = None,
) -> None:
    """Say which ratio to deploy, with a guarantee.

    With --predict, --out FILE keeps the dial as well: in Python, load_dial(FILE).press() is a press of kvpress's.
    """
    check_outputs(plot, out)
    from routegraph.validate.certify.memory import cache_row_at_hand
    from routegraph.validate.certify.run import certify as certified
    from routegraph.validate.measure.result import Measured
    from routegraph.validate.predict.result import Predicted

    measured = Measured.load(cells)
    row_bytes = 0
    if tokens > 0 and not cache_row_at_hand(measured.settings):
        from routegraph.validate.models.load import cache_row

        settings = measured.settings
        row_bytes = cache_row(settings["model"], str(settings.get("dtype", "float32")))
    found = certified(
        measured,
        None if predict is None else Predicted.load(predict),
        policy_names=policy,
        risk=risk,
        confidence=confidence,
        against=against,
        tokens=tokens,
        row_bytes=row_bytes,
        seed=seed,
    )
    if plot is not None:
        draw(found.plot(), plot)
    if hand_over(found.to_dict(), json_, out):
        found.page().show(console())
