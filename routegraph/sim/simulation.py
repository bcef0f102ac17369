"""`simulate`: replicates of an ensemble under eviction, at every ratio from one pass each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from routegraph import plot
from routegraph._version import __version__
from routegraph.critical.points import Susceptibility, susceptibility
from routegraph.options import check_names, takes
from routegraph.policies import is_nested
from routegraph.sim.measures import measures as measure_registry
from routegraph.sim.observables import Sample, observables
from routegraph.sim.parameters import Parameters, check_count, definitions, split_settings
from routegraph.sim.predict import predict
from routegraph.sim.run import Progress, run_cell, run_measures
from routegraph.survival import Survival, check_ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: The observables of a result row, in the order of the contract.
ROW = (
    "ger",
    "eviction_rate",
    "ger_layer",
    "eviction_rate_layer",
    "reach_fraction",
    "reach_any",
    "reach_all",
    "reach_answers",
)


@dataclass(frozen=True, eq=False)
class Simulation:
    """The result of `simulate`.

    Attributes
    ----------
    parameters : Parameters
    ratios : list of float
    replicates, seed : int
    samples : tuple of Sample
        Integer levels of every replicate: one Sample for all ratios, or, where the policy is not nested, one
        for each of `ratios`.
    level_of : Survival
        Turns ratios into levels as the policy does.
    measured : mapping of str to float64[n_replicates, n_ratios]
        Measures taken at `ratios`.
    """

    parameters: Parameters
    ratios: list[float]
    replicates: int
    seed: int
    samples: tuple[Sample, ...]
    level_of: Survival
    measured: Mapping[str, NDArray[np.float64]]

    @property
    def nested(self) -> bool:
        """Whether one pass answered all ratios; otherwise curves are known at `ratios` only."""
        return is_nested(self.parameters.policy)

    def curves(self, observable: str, ratios: float | Iterable[float]) -> NDArray[np.float64]:
        """Return an observable at any ratios, a measure at the ratios it was taken at.

        float64[n_replicates, n_ratios].
        """
        if observable not in self.measured and self.nested:
            values: NDArray[np.float64] = observables[observable](
                self.samples[0], self.level_of.levels(ratios)
            )
            return values
        try:
            columns = [self.ratios.index(ratio) for ratio in check_ratios(ratios)]
        except ValueError:
            taken = ", ".join(f"{ratio:g}" for ratio in self.ratios)
            raise ValueError(f"{observable!r} was measured at {taken} only") from None
        if observable in self.measured:
            return self.measured[observable][:, columns]
        # Beyond its one step a survival of one ratio is at level 1.
        return np.concatenate([observables[observable](self.samples[i], [1]) for i in columns], axis=1)

    def theory(self, observable: str, ratios: float | Iterable[float]) -> NDArray[np.float64] | None:
        """Return what theory predicts, float64[n_ratios], or None where no theory applies."""
        if observable in self.measured or not self.nested:
            return None
        return predict(self.parameters, observable, self.level_of.levels(ratios))

    def estimate(
        self, observable: str, ratios: float | Iterable[float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return (mean, standard error) over replicates, float64[n_ratios]; no error at one replicate."""
        values = self.curves(observable, ratios)
        if len(values) == 1:
            return values[0], None
        return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))

    def susceptibility(self, observable: str, ratios: Iterable[float]) -> Susceptibility:
        """Return the susceptibility of an observable as a derivative and as n times its variance."""
        grid = check_ratios(ratios)
        return susceptibility(grid, self.curves(observable, grid), self.parameters.n_tokens)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values: version, seed, parameters, definitions, results."""
        shown = asdict(self.parameters)
        owners = ("ensemble_parameters", "policy_parameters", "profile_parameters")
        settings = {name: value for owner in owners for name, value in shown.pop(owner)}
        columns = {
            name: (*self.estimate(name, self.ratios), self.theory(name, self.ratios))
            for name in (*ROW, *self.measured)
        }
        rows: list[dict[str, Any]] = []
        for i, ratio in enumerate(self.ratios):
            cells = {
                name: {
                    "mean": _or_none(mean[i]),
                    "stderr": None if error is None else _or_none(error[i]),
                    "theory": None if theory is None else float(theory[i]),
                }
                for name, (mean, error, theory) in columns.items()
            }
            rows.append({"ratio": ratio, **cells})
        return {
            "version": __version__,
            "seed": self.seed,
            "parameters": {
                **shown,
                "settings": settings,
                "ratio": self.ratios,
                "replicates": self.replicates,
            },
            "definitions": definitions(self.parameters),
            "results": rows,
        }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


@takes(Parameters)
def simulate(
    n_tokens: int = Parameters.n_tokens,
    ratio: float | Iterable[float] = 0.9,
    *,
    replicates: int = 32,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    measures: Iterable[str] = (),
    workers: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Simulation:
    """Simulate token-attention graphs under KV-cache eviction.

    Parameters
    ----------
    n_tokens : int
        Cache rows; the query is one more position after them.
    ratio : float or sequence of float
        Compression ratios in [0, 1). All ratios come from the same pass, so more of them cost nothing.
    **options
    replicates, seed : int
        Independent graphs, and the seed they come from.
    settings : mapping, optional
        Further parameters of the ensemble, the policy and the profile by name.
    measures : iterable of str
        Further measures to take on the stored graph at each ratio; see ``routegraph list``.
    workers : int, optional
        Threads; all cores by default. The result does not depend on it.
    progress : function of (done, total), optional
        Called after each replicate.

    Returns
    -------
    Simulation

    Raises
    ------
    ValueError
        If a parameter is out of range or unknown; nothing is computed then.

    Notes
    -----
    The options are the fields of `routegraph.sim.parameters.Parameters`.
    """
    check_names("simulate", Parameters, options)
    ratios = check_ratios(ratio)
    check_count("replicates", replicates)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
    chosen = {
        name: options.get(name, getattr(Parameters, name)) for name in ("ensemble", "policy", "profile")
    }
    options |= split_settings(**chosen, settings=settings or {})
    parameters = Parameters(n_tokens=n_tokens, **options)
    names = list(dict.fromkeys(measures))
    for name in names:
        measure_registry[name]
    if names and (parameters.source, parameters.directed) != ("query", True):
        raise ValueError(
            "measures follow directed routes from the query; take them without source and directed"
        )
    grid = [None] if is_nested(parameters.policy) else ratios
    samples = tuple(
        run_cell(parameters, replicates, seed, workers=workers, progress=progress, ratio=at) for at in grid
    )
    measured = run_measures(parameters, names, ratios, replicates, seed, workers=workers, progress=progress)
    return Simulation(parameters, ratios, replicates, seed, samples, parameters.levels_of(), measured)


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
