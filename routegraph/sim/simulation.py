"""`simulate`: replicates of an ensemble under eviction, at every ratio from one pass each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from routegraph.memory import REPLICATES
from routegraph.options import check_names, check_seed, check_whole, takes
from routegraph.sim.measures import measures as measure_registry
from routegraph.sim.parameters import Parameters, split_settings
from routegraph.sim.result import Simulation
from routegraph.sim.run import Progress
from routegraph.survival import check_ratios


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
    ratios = list(dict.fromkeys(check_ratios(ratio)))
    check_whole("replicates", replicates, low=1, high=REPLICATES)
    check_seed(seed)
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
    return Simulation.drawn(parameters, ratios, replicates, seed, names, workers, progress)
