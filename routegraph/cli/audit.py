"""The command `audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from routegraph.cli.options import Json, Out, share
from routegraph.cli.terminal import check_outputs, console, hand_over, note


def audit(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Result folders of kvpress's evaluation, samples of lm-eval, or folders written by measure.",
        ),
    ],
    risk: Annotated[float, share("Share of answers that may break at a certified ratio, in (0, 1).")] = 0.05,
    confidence: Annotated[float, share("Chance that all certificates hold, in (0, 1).")] = 0.9,
    json_: Json = False,
    out: Out = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="HTML page to write.")] = None,
) -> None:
    """Say what compressed runs break, item by item."""
    check_outputs(None, out)
    check_outputs(None, html)
    from routegraph.validate.audit.html_page import write_page
    from routegraph.validate.audit.run import audit as audited

    found = audited(folder, risk=risk, confidence=confidence)
    if html is not None:
        write_page(html, found)
        note(f"wrote {html}")
    if hand_over(found.to_dict(), json_, out):
        found.page().show(console())
