"""Figure of linear probes: macro-F1 beside the accuracy of the same items, against the ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph.theory.scaling import Interval
from routegraph.validate.probes import FEATURES, Probed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"hidden": "blue", "cache": "green"}


def plot_probed(found: Probed) -> Figure:
    """Draw every policy, a panel each; bands are 95 % intervals."""
    policies, seed = found.settings["policies"], found.settings["seed"]
    with plot.style():
        made, axes = plot.figure(1, len(policies), width=5.6, height=4.2)
        for ax, policy in zip(np.ravel(axes), policies, strict=True):
            rows = [row for row in found.rows if row.policy == policy]
            for kind in FEATURES:
                own = [row for row in rows if row.features == kind]
                ratios, colour = [row.ratio for row in own], plot.COLOURS[_COLOURS[kind]]
                look = {"color": colour, "marker": "o", "label": f"probe of {kind}, macro-F1"}
                _band(ax, ratios, [row.probe.f1(seed) for row in own], look)
                chance = [row.chance.f1(seed).value for row in own]
                ax.plot(ratios, chance, ":", color=colour, linewidth=1, label=f"{kind}, labels dealt anew")
            own = [row for row in rows if row.features == FEATURES[0]]
            look = {"color": plot.COLOURS["red"], "marker": "s", "label": "accuracy of the replies"}
            _band(ax, [row.ratio for row in own], [row.accuracy() for row in own], look)
            asked, black = found.question.f1(seed), plot.COLOURS["black"]
            ax.axhline(asked.value, color=black, linewidth=1, linestyle="--", label="question's tokens alone")
            ax.axhspan(asked.low, asked.high, color=black, alpha=0.07, linewidth=0)
            ax.set(ylim=(-0.02, 1.02), xlabel="compression ratio", ylabel="macro-F1, share of items")
            ax.set_title(policy, loc="left")
        handles, names = np.ravel(axes)[0].get_legend_handles_labels()
        made.legend(handles, names, loc="outside lower center", ncols=3)
        made.suptitle(
            f"{found.settings['model']}: {len(found.question.labels)} items, target {found.settings['target']}; "
            "bands 95 %",
            fontsize="medium",
            x=0.01,
            ha="left",
        )
    result: Figure = made
    return result


def _band(ax: Axes, x: list[float], values: list[Interval], look: dict[str, Any]) -> None:
    ax.plot(x, [one.value for one in values], markersize=4, **look)
    low, high = [one.low for one in values], [one.high for one in values]
    ax.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
