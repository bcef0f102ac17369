"""Running the replicates of a cell, each one pass that answers every ratio."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from routegraph.kernels import rng
from routegraph.kernels.stream import tally
from routegraph.policies import is_nested
from routegraph.sim.draw import draw_answers
from routegraph.sim.measures import Replicate, measures
from routegraph.sim.memory import check_memory
from routegraph.sim.observables import Sample
from routegraph.sim.parameters import Parameters
from routegraph.sim.stream import threads_each, walk

Progress = Callable[[int, int], None]
T = TypeVar("T")


def run_replicate(
    parameters: Parameters,
    seed: int,
    cell: int,
    replicate: int,
    ratio: float | None = None,
    threads: int = 1,
) -> Sample:
    """Run one replicate; returns a Sample with R = 1. A policy that is not nested needs the ratio.

    The result does not depend on the number of threads, see `walk`.
    """
    sequence = rng.seed_sequence(seed, cell, replicate)
    answers = draw_answers(parameters, sequence)
    passed = walk(parameters, sequence, answers, ratio, threads)
    value = passed.value[: parameters.n_tokens]
    last_model, reached = np.zeros((2, passed.max_level + 2), dtype=np.int64)
    tally(passed.last_model, last_model)
    tally(value, reached)
    return Sample(
        last_model=last_model[None],
        last_layer=passed.last_layer[None],
        reach=reached[None],
        answer_last_model=passed.last_model[answers].astype(np.int32)[None],
        answer_last_layer=passed.answer_last_layer.astype(np.int32)[None],
        answer_reach=(value[answers].astype(np.int32) - 1)[None],
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
    """Run the replicates of one cell over threads; the result does not depend on their number.

    Raises
    ------
    ValueError
        If that takes more memory than is free; nothing is computed then.
    """
    workers = workers or os.cpu_count() or 1
    check_memory(parameters, replicates, workers)
    threads = threads_each(parameters, replicates, workers)
    done = over_replicates(
        lambda replicate: run_replicate(parameters, seed, cell, replicate, ratio, threads),
        replicates,
        workers,
        progress,
    )
    if len(done) == 1:
        return done[0]
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

    if not names:
        return {}
    workers = workers or os.cpu_count() or 1
    check_memory(parameters, replicates, workers, whole_graph=True)
    done = over_replicates(take, replicates, workers, progress)
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
