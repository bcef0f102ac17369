"""One self-contained HTML page from a simulation and a comparison: words, tables, figures."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence

from routegraph import plot
from routegraph._version import __version__
from routegraph.files import atomic_open
from routegraph.html import definitions, document
from routegraph.sim.result import Simulation
from routegraph.tables import Page, note, words
from routegraph.validate.claims import tables as claims_tables
from routegraph.validate.claims.case import Claim
from routegraph.validate.claims.figures import plot_claims
from routegraph.validate.compare.figures import plot_comparison
from routegraph.validate.compare.result import COMPARISON_DEFINITIONS, Comparison
from routegraph.validate.compare.tables import policy_blocks
from routegraph.validate.measure.result import Measured


def write_report(
    path: str | os.PathLike[str],
    simulation: Simulation | None,
    comparison: Comparison,
    judged: Sequence[Claim] = (),
    measured: Sequence[Measured] = (),
) -> None:
    """Write the page, atomically.

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
    """
    parts = [
        "<h1>How far can this KV cache be compressed before its routes break?</h1>",
        f"<p class=note>routegraph {__version__}. Everything on this page is inside this one file.</p>",
        *_comparison(comparison),
        *_claims(judged, measured),
        *([] if simulation is None else _simulation(simulation)),
        "<h2>Definitions</h2>",
        definitions(COMPARISON_DEFINITIONS),
    ]
    page = document(f"routegraph: {comparison.model}", parts)
    with atomic_open(path, "w") as stream:
        stream.write(page)


def _simulation(result: Simulation) -> list[str]:
    return [
        "<h2>A simulated token-attention graph</h2>",
        f"<figure>{plot.to_svg(result.plot())}</figure>",
        result.page().to_html(),
    ]


def _claims(judged: Sequence[Claim], measured: Sequence[Measured]) -> list[str]:
    if not judged:
        return []
    shown = [found for found in measured if found.answerable.any()]
    figure = [f"<figure>{plot.to_svg(plot_claims(shown))}</figure>"] if shown else []
    return ["<h2>The paper's claims</h2>", *figure, *claims_tables.to_html(judged, measured)]


def _comparison(result: Comparison) -> list[str]:
    parts = ["<h2>A real model, theory and simulation side by side</h2>"]
    parts.append(Page((words(result.question),)).to_html())
    for found in result.policies.values():
        parts += [
            f"<h3>Policy {html.escape(found.policy)}</h3>",
            f"<figure>{plot.to_svg(plot_comparison(found, result.model))}</figure>",
            Page(tuple(policy_blocks(found, result.has_measured))).to_html(),
        ]
    return [*parts, Page((note(*result.notes),)).to_html()]
