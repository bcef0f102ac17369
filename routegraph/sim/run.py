"""Running the replicates of a cell, each one pass that answers every ratio."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from routegraph import rng
from routegraph.kernels.reach import layer_pass
from routegraph.policies import is_nested
from routegraph.sim.draw import draw_answers, draw_survival
from routegraph.sim.measures import Replicate, measures
from routegraph.sim.observables import Sample
from routegraph.sim.parameters import Parameters
from routegraph.survival import Survival

Progress = Callable[[int, int], None]
T = TypeVar("T")


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


def run_replicate(
    parameters: Parameters, seed: int, cell: int, replicate: int, ratio: float | None = None
) -> Sample:
    """Run one replicate; returns a Sample with R = 1. A policy that is not nested needs the ratio."""
    sequence = rng.seed_sequence(seed, cell, replicate)
    edge_key, _ = rng.keys(sequence)
    survival = draw_survival(parameters, sequence, ratio)
    answers = draw_answers(parameters, sequence)
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
    ratio: float | None = None,
) -> Sample:
    """Run the replicates of one cell over threads; the result does not depend on their number."""
    done = over_replicates(
        lambda replicate: run_replicate(parameters, seed, cell, replicate, ratio),
        replicates,
        workers,
        progress,
    )
    return Sample(*(np.concatenate([getattr(s, name) for s in done]) for name in Sample.__dataclass_fields__))


def run_measures(
    parameters: Parameters,
    names: Sequence[str],
    ratios: Sequence[float],
    replicates: int,
    seed: int = 0,
    cell: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Take measures on the same replicates as `run_cell`, at the given ratios; float64[R, n_ratios] each."""

    def take(replicate: int) -> list[NDArray[np.float64]]:
        sequence = rng.seed_sequence(seed, cell, replicate)
        if is_nested(parameters.policy):
            drawn = Replicate(parameters, sequence)
            return [np.asarray(measures[name](drawn, ratios), dtype=float) for name in names]
        each = [Replicate(parameters, sequence, ratio) for ratio in ratios]
        return [
            np.concatenate(
                [measures[name](drawn, [ratio]) for drawn, ratio in zip(each, ratios, strict=True)]
            )
            for name in names
        ]

    done = over_replicates(take, replicates, workers, progress) if names else []
    return {name: np.array([values[i] for values in done]) for i, name in enumerate(names)}


def over_replicates(
    function: Callable[[int], T], replicates: int, workers: int | None, progress: Progress | None
) -> list[T]:
    """Return the function of 0..replicates-1, in order, computed over threads (all cores by default)."""
    done: list[T] = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for result in pool.map(function, range(replicates)):
            done.append(result)
            if progress is not None:
                progress(len(done), replicates)
    return done
