"""`simulate`: replicates of an ensemble under eviction, at every ratio from one pass each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import rng
from routegraph._version import __version__
from routegraph.kernels.reach import layer_pass
from routegraph.sim import fields
from routegraph.sim.observables import Sample, observables
from routegraph.sim.parameters import Parameters, check_count, definitions, split_settings
from routegraph.sim.predict import predict
from routegraph.survival import Survival, check_ratios

Progress = Callable[[int, int], None]

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


def draw_survival(parameters: Parameters, seed: int, cell: int, replicate: int) -> Survival:
    """Draw the scores of one replicate and evict by the policy."""
    return fields.draw_survival(
        rng.seed_sequence(seed, cell, replicate),
        parameters.shape,
        parameters.policy,
        parameters.score_correlation,
        dict(parameters.policy_parameters),
    )


def reach_values(parameters: Parameters, edge_key: np.uint64, survival: Survival) -> NDArray[np.int32]:
    """Return thresholds + 1 of every position from the query, drawing each layer inside the pass."""
    n_positions = parameters.n_tokens + 1
    value = np.zeros(n_positions, dtype=np.int32)
    value[-1] = survival.max_level + 1
    below = np.empty_like(value)
    best = np.zeros(n_positions * parameters.n_heads, dtype=np.int32)
    drop = np.ascontiguousarray(survival.drop, dtype=np.int32)
    columns = parameters.prune == "columns"
    for layer in range(parameters.n_layers, 0, -1):
        edges = parameters.draw_edges(edge_key, layer, n_positions)
        layer_pass(
            value, below, best, edges.indptr, edges.slots, drop[layer - 1], columns, parameters.residual
        )
        value, below = below, value
    return value


def run_replicate(parameters: Parameters, seed: int, cell: int, replicate: int) -> Sample:
    """Run one replicate; returns a Sample with R = 1."""
    sequence = rng.seed_sequence(seed, cell, replicate)
    edge_key, _ = rng.keys(sequence)
    survival = draw_survival(parameters, seed, cell, replicate)
    answers = rng.generator(sequence, rng.ANSWERS).choice(
        parameters.n_tokens, parameters.n_answers, replace=False, shuffle=False
    )
    value = reach_values(parameters, edge_key, survival)[: parameters.n_tokens]
    last_layer = survival.last("layer")
    last_model = last_layer.max(axis=0)
    bins = survival.max_level + 2
    return Sample(
        last_model=np.bincount(last_model, minlength=bins)[None],
        last_layer=np.bincount(last_layer.ravel(), minlength=bins)[None],
        reach=np.bincount(value, minlength=bins)[None],
        answer_last_model=last_model[answers][None],
        answer_last_layer=last_layer[:, answers][None],
        answer_reach=(value[answers] - 1)[None],
    )


def run_cell(
    parameters: Parameters,
    replicates: int,
    seed: int = 0,
    cell: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sample:
    """Run the replicates of one cell over threads; the result does not depend on their number."""
    done: list[Sample] = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        jobs = pool.map(lambda replicate: run_replicate(parameters, seed, cell, replicate), range(replicates))
        for sample in jobs:
            done.append(sample)
            if progress is not None:
                progress(len(done), replicates)
    return Sample(*(np.concatenate([getattr(s, name) for s in done]) for name in Sample.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class Simulation:
    """The result of `simulate`.

    Attributes
    ----------
    parameters : Parameters
    ratios : list of float
    replicates, seed : int
    sample : Sample
        Integer levels of every replicate; `curves` evaluates any observable at any ratio.
    level_of : Survival
        Turns ratios into levels as the policy does.
    """

    parameters: Parameters
    ratios: list[float]
    replicates: int
    seed: int
    sample: Sample
    level_of: Survival

    def curves(self, observable: str, ratios: float | Iterable[float]) -> NDArray[np.float64]:
        """Return an observable at any ratios, float64[n_replicates, n_ratios]."""
        values: NDArray[np.float64] = observables[observable](self.sample, self.level_of.levels(ratios))
        return values

    def theory(self, observable: str, ratios: float | Iterable[float]) -> NDArray[np.float64] | None:
        """Return what theory predicts, float64[n_ratios], or None where no theory applies."""
        return predict(self.parameters, observable, self.level_of.levels(ratios))

    def estimate(
        self, observable: str, ratios: float | Iterable[float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return (mean, standard error) over replicates, float64[n_ratios]; no error at one replicate."""
        values = self.curves(observable, ratios)
        if len(values) == 1:
            return values[0], None
        return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values: version, seed, parameters, definitions, results."""
        shown = asdict(self.parameters)
        settings = {**dict(shown.pop("ensemble_parameters")), **dict(shown.pop("policy_parameters"))}
        columns = {name: (*self.estimate(name, self.ratios), self.theory(name, self.ratios)) for name in ROW}
        rows: list[dict[str, Any]] = []
        for i, ratio in enumerate(self.ratios):
            cells = {
                name: {
                    "mean": float(mean[i]),
                    "stderr": None if error is None else float(error[i]),
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


def simulate(
    n_tokens: int = 4096,
    ratio: float | Iterable[float] = 0.9,
    *,
    n_layers: int = 32,
    n_heads: int = 8,
    degree: int = 1,
    ensemble: str = "uniform",
    policy: str = "random",
    score_correlation: float = 0.0,
    prune: str = "columns",
    residual: bool = True,
    n_answers: int = 8,
    replicates: int = 32,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate token-attention graphs under KV-cache eviction.

    Parameters
    ----------
    n_tokens : int
        Cache rows; the query is one more position after them.
    ratio : float or sequence of float
        Compression ratios in [0, 1). All ratios come from the same pass, so more of them cost nothing.
    n_layers, n_heads : int
        Layers and KV heads a layer.
    degree : int
        Reads drawn for each (layer, KV head, token).
    ensemble : str
        Where the reads fall; see ``routegraph list``.
    policy : str
        Which rows are evicted first.
    score_correlation : float
        Correlation, in [0, 1], between the scores that any two slots give one token.
    prune : {"columns", "decode"}
        Cut edges into dead slots everywhere, or only those of the query.
    residual : bool
        Whether a token also carries itself down each layer.
    n_answers : int
        Answer tokens drawn in each replicate.
    replicates, seed : int
        Independent graphs, and the seed they come from.
    settings : mapping, optional
        Further parameters of the ensemble and the policy by name.
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
    """
    ratios = check_ratios(ratio)
    check_count("replicates", replicates)
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
    parameters = Parameters(
        n_tokens=n_tokens,
        n_layers=n_layers,
        n_heads=n_heads,
        degree=degree,
        ensemble=ensemble,
        policy=policy,
        score_correlation=score_correlation,
        prune=prune,
        residual=residual,
        n_answers=n_answers,
        **split_settings(ensemble, policy, settings or {}),
    )
    sample = run_cell(parameters, replicates, seed, workers=workers, progress=progress)
    return Simulation(parameters, ratios, replicates, seed, sample, parameters.levels_of())
