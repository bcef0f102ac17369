"""The figure of an audit: how much is right at every ratio, and what breaks and is mended on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph.stats.proportions import wilson
from routegraph.text import drawn
from routegraph.validate.audit.flips import Flips
from routegraph.validate.audit.runs import Run, Scope

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: So many data sets and models are drawn; tables have all.
MOST = 6
_MARKERS = "osD^v<>P"


def plot_audit(rows: Sequence[Flips], axes: Any = None) -> Figure:
    """Draw two panels for every data set and model: right answers, and answers broken and mended.

    rows : of compressed runs over all tasks. Bands are Wilson's 95 % intervals; axes : as many as there are panels.
    """
    judged = [row for row in rows if row.judged]
    scopes = drawn_scopes(judged)
    with plot.style():
        if axes is None:
            _, axes = plot.figure(max(len(scopes), 1) * 2, 1, height=3.0)
        panels = np.ravel(axes)
        for k, scope in enumerate(scopes):
            _draw(
                panels[2 * k],
                panels[2 * k + 1],
                [row for row in judged if row.pair.run.scope == scope],
                scope,
            )
    made: Figure = panels[0].figure
    return made


def drawn_scopes(rows: Sequence[Flips]) -> list[Scope]:
    """Return the data sets and models that are drawn: the first few that were judged."""
    return list(dict.fromkeys(row.pair.run.scope for row in rows if row.judged))[:MOST]


def _draw(above: Any, below: Any, rows: Sequence[Flips], scope: Scope) -> None:
    curves: dict[object, list[Flips]] = {}
    for row in rows:
        curves.setdefault(row.pair.run.curve, []).append(row)
    colours = list(plot.COLOURS.values())
    for k, own in enumerate(curves.values()):
        own.sort(key=lambda row: row.pair.run.ratio)
        first: Run = own[0].pair.run
        colour, marker = colours[k % len(colours)], _MARKERS[k % len(_MARKERS)]
        ratios = np.array([0.0, *(row.pair.run.ratio for row in own)])
        n = np.array([own[0].judged, *(row.judged for row in own)])
        right = np.array([own[0].right_before, *(row.right_after for row in own)])
        low, high = wilson(right, n)
        above.plot(ratios, right / n, marker=marker, color=colour, label=drawn(first.label))
        above.fill_between(ratios, low, high, color=colour, alpha=0.15, linewidth=0)
        for name, style in (("broken", "-"), ("mended", ":")):
            shares = [getattr(row, name) / row.judged for row in own]
            label = name if k == 0 else None  # colours are those of the panel above
            below.plot(ratios[1:], shares, marker=marker, linestyle=style, color=colour, label=label)
    for ax in (above, below):
        ax.set(xlabel="compression ratio", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    plot.legend(above)
    plot.legend(below)
    above.set_ylabel("share of right answers")
    below.set_ylabel("share of items that flip")
    above.set_title(drawn(scope.words), loc="left")
