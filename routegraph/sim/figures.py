"""The figure of a simulation: what is lost and what is still reached, at every ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from routegraph import plot
from routegraph.sim.simulation import Simulation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOST = {
    "ger": ("GER, all slots", "blue"),
    "ger_layer": ("GER, mean over layers", "orange"),
    "eviction_rate_layer": ("eviction rate, mean over layers", "sky"),
}
_REACHED = {
    "reach_any": ("any answer token", "green"),
    "reach_answers": ("answer tokens", "purple"),
    "reach_all": ("all answer tokens", "red"),
    "reach_fraction": ("context tokens", "black"),
}


def plot_simulation(simulation: Simulation, axes: Any = None) -> Figure:
    """Draw retention and accessibility against the ratio, theory as dashed lines.

    Parameters
    ----------
    simulation : Simulation
        Result of `simulate`; bands are one standard error over replicates.
    axes : pair of Axes, optional
        Where to draw; a new figure by default.
    """
    with plot.style():
        return _draw(simulation, plot.figure(1, 2)[1] if axes is None else axes)


def _draw(simulation: Simulation, axes: Any) -> Figure:
    grid = (
        np.linspace(0, 1 - 1 / simulation.parameters.n_tokens, 400)
        if simulation.nested
        else simulation.ratios
    )
    for ax, names, title, label in (
        (axes[0], _LOST, "Retention: what is lost", "fraction of tokens gone"),
        (axes[1], _REACHED, "Accessibility: what the query still reaches", "fraction reached"),
    ):
        for name, (text, colour) in names.items():
            mean, error = simulation.estimate(name, grid)
            plot.band(ax, grid, mean, error, color=plot.COLOURS[colour], label=text)
            theory = simulation.theory(name, grid)
            if theory is not None:
                ax.plot(grid, theory, color=plot.COLOURS[colour], linestyle="--", linewidth=1)
        for ratio in simulation.ratios:
            ax.axvline(ratio, color="0.6", linestyle=":", linewidth=1)
        ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="compression ratio", ylabel=label, title=title)
        ax.legend(loc="upper left" if names is _LOST else "lower left")
    axes[0].plot([], [], color="0.3", linestyle="--", linewidth=1, label="theory")
    axes[0].legend(loc="upper left")
    made: Figure = axes[0].figure
    p = simulation.parameters
    made.suptitle(
        f"{p.ensemble} reads, {p.policy} eviction: n = {p.n_tokens}, {p.n_layers} layers x {p.n_heads} heads,"
        f" "
        f"degree {p.degree}, correlation {p.score_correlation:g}, {p.prune}, "
        f"{simulation.replicates} replicates",
        fontsize="small",
        x=0.01,
        ha="left",
    )
    return made
