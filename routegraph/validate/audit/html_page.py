"""An audit as one self-contained HTML page: the answer, warnings, a figure, tables, definitions."""

from __future__ import annotations

import os

from routegraph import plot
from routegraph._version import __version__
from routegraph.files import atomic_open
from routegraph.html import definitions, described, document, headed
from routegraph.tables import Page
from routegraph.text import hypertext
from routegraph.validate.audit.figures import drawn_scopes
from routegraph.validate.audit.result import AUDIT_DEFINITIONS, Audit


def write_page(path: str | os.PathLike[str], found: Audit) -> None:
    """Write the page, atomically; ValueError where its folder does not exist."""
    first, *rest = found.page(whole=True).blocks
    judged = [row for row in found.compressed if row.judged]
    parts = [
        "<main><h1>What does compressing the cache break?</h1>",
        f"<div class=answer>{Page((first,)).to_html()}</div>",
        f"<p class=note>Folder {hypertext(found.folder)}, routegraph {__version__}. Everything on this page is "
        "inside this one file.</p>",
        headed(Page(tuple(rest[:2]))) if found.warnings else "",
        described(plot.to_svg(found.plot()), *_caption(found)) if judged else "",
        headed(Page(tuple(rest[2:] if found.warnings else rest))),
        "<h2>Definitions</h2>",
        definitions(AUDIT_DEFINITIONS),
        "</main>",
    ]
    with atomic_open(path, "w") as stream:
        stream.write(document(f"routegraph audit: {found.folder}", parts))


def _caption(found: Audit) -> tuple[str, str]:
    """Return in words what the figure shows, and its numbers."""
    shown = drawn_scopes(found.compressed)
    left = len({row.pair.run.scope for row in found.compressed if row.judged}) - len(shown)
    told = "; ".join(
        f"{row.pair.run.label} at {row.pair.run.ratio:g}: {row.right_before} to {row.right_after} of {row.judged} "
        f"right, {row.broken} broken, {row.mended} mended"
        for row in [row for row in found.compressed if row.judged][:12]
    )
    more = f" {left} more data sets and models are in the tables only." if left else ""
    return (
        "Share of right answers against the compression ratio, with 95 % intervals, and below it the shares of "
        f"answers that break (solid) and are mended (dotted).{more}",
        f"{told}.",
    )
