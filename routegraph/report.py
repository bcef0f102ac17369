"""One self-contained HTML page from a simulation and a comparison: the answer, then tables and figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from routegraph import plot
from routegraph._version import __version__
from routegraph.files import atomic_open
from routegraph.html import definitions, document
from routegraph.sim.result import Simulation
from routegraph.tables import Page, note, words
from routegraph.text import hypertext
from routegraph.validate.claims import tables as claims_tables
from routegraph.validate.claims.case import Claim
from routegraph.validate.claims.figures import claims_words, plot_claims
from routegraph.validate.compare.figures import panel_words, plot_comparison
from routegraph.validate.compare.result import COMPARISON_DEFINITIONS, Comparison
from routegraph.validate.compare.tables import policy_blocks
from routegraph.validate.measure.beside import beside_blocks, example
from routegraph.validate.measure.result import Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Size of a panel in inches, so that its letters can be read on a telephone.
_PANEL = {"width": 3.6, "height": 3.0}


def write_report(
    path: str | os.PathLike[str],
    simulation: Simulation | None,
    comparison: Comparison,
    judged: Sequence[Claim] = (),
    measured: Sequence[Measured] = (),
    asked: Measured | None = None,
) -> None:
    """Write the page, atomically: what was found, one question's replies, and only then tables and figures.

    Parameters
    ----------
    path : path
        HTML file to write.
    simulation : Simulation or None
        What a simulation showed, if one belongs to the story.
    comparison : Comparison
        What a real model showed.
    judged : sequence of Claim
        The paper's claims with their verdicts.
    measured : sequence of Measured
        What they were judged on, for the figure.
    asked : Measured, optional
        Of the same model: one question of it is shown with its replies, one that is right with nothing removed.
    """
    parts = [
        "<h1>How far can this KV cache be compressed before its routes break?</h1>",
        f"<div class=answer>{Page((words(*comparison.answer),)).to_html()}</div>",
        *_replies(asked),
        *_comparison(comparison),
        *_claims(judged, measured),
        *([] if simulation is None else _simulation(simulation)),
        "<h2>Definitions</h2>",
        definitions(COMPARISON_DEFINITIONS),
        f"<p class=note>routegraph {__version__}. Everything on this page is inside this one file.</p>",
    ]
    page = document(f"routegraph: {comparison.model}", parts)
    with atomic_open(path, "w") as stream:
        stream.write(page)


def _figure(made: Figure, described: Sequence[tuple[str, str]]) -> str:
    return f"<figure class=panels>{''.join(plot.to_panels(made, described))}</figure>"


def _simulation(result: Simulation) -> list[str]:
    lost, *reached = result.answer
    shown = [
        ("Simulated fraction of tokens gone, by compression ratio", lost),
        (
            "Simulated fraction of tokens that the query still reaches, by compression ratio",
            " ".join(reached),
        ),
    ]
    return [
        "<h2>A simulated token-attention graph</h2>",
        _figure(result.plot(plot.figure(1, 2, **_PANEL)[1]), shown),
        result.page().to_html(),
    ]


def _replies(asked: Measured | None) -> list[str]:
    item = None if asked is None else example(asked)
    if asked is None or item is None:
        return []
    shown = Page(tuple(beside_blocks(asked, item))).to_html()
    return ["<h2>A real question under compression</h2>", f"<div class=replies>{shown}</div>"]


def _claims(judged: Sequence[Claim], measured: Sequence[Measured]) -> list[str]:
    if not judged:
        return []
    shown = [found for found in measured if found.answerable.any()]
    figure = [_figure(plot_claims(shown, **_PANEL), claims_words(shown))] if shown else []
    first, *parts = claims_tables.to_html(judged, measured)
    return ["<h2>The paper's claims</h2>", first, *figure, *parts]


def _comparison(result: Comparison) -> list[str]:
    parts = ["<h2>A real model, theory and simulation side by side</h2>"]
    parts.append(Page((words(result.question),)).to_html())
    for found in result.policies.values():
        axes = plot.figure(2 if found.reach else 1, 2, **_PANEL)[1]
        parts += [
            f"<h3>Policy {hypertext(found.policy)}</h3>",
            _figure(plot_comparison(found, result.model, axes), panel_words(found)),
            Page(tuple(policy_blocks(found, result.has_measured))).to_html(),
        ]
    return [*parts, Page((note(*result.notes),)).to_html()]
