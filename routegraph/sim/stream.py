"""One replicate, layer by layer from the top: what survives, which reads there are, how far the query reaches.

Never more than a layer is held. What can be drawn inside the pass is: the reads of the ensembles uniform and
window, the random orders or levels of policies that declare them. Other ensembles fill a buffer of one layer; other
policies need all scores before the first layer, so that they make the whole Survival first. Undirected routes go up
as well as down: they need the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from routegraph.kernels import ranks, reach, rng, stream
from routegraph.kernels.threads import parts_of
from routegraph.percolation import weak_thresholds
from routegraph.policies import declared, policies
from routegraph.routes import level_type, unsigned
from routegraph.sim.draw import draw_graph, draw_survival
from routegraph.sim.ensembles import ensembles
from routegraph.sim.parameters import Parameters
from routegraph.survival import Survival

#: Tokens from which on it pays to share out one layer to several threads.
SHARED = 2**15

Row = NDArray[Any]
#: (layer, value, below, last): sets the values of the layer below and the last level of each context token.
Step = Callable[[int, Row, Row, Row], None]
#: layer -> int32[n_heads, n_tokens], the levels at which its slots die; good until the next call.
Levels = Callable[[int], NDArray[np.int32]]


class Passed(NamedTuple):
    """What a pass leaves behind.

    Attributes
    ----------
    max_level : int
    value : int[n_tokens + 1]
        Threshold + 1 of every position.
    last_model : int[n_tokens]
        Level at which the last slot of each context token dies.
    last_layer : int64[max_level + 2]
        How many (layer, token) lose their last slot of the layer at each level.
    answer_last_layer : int[n_layers, n_answers]
        The same level of each answer token.
    """

    max_level: int
    value: Row
    last_model: Row
    last_layer: NDArray[np.int64]
    answer_last_layer: Row


def walk(
    parameters: Parameters,
    sequence: np.random.SeedSequence,
    answers: NDArray[np.int64],
    ratio: float | None = None,
    threads: int = 1,
) -> Passed:
    """Draw a replicate and follow the query's reach down all layers.

    A policy that is not nested needs the ratio. Where reads and levels are drawn inside the pass, the heads of a layer
    are shared out to `threads`; the result does not depend on their number.
    """
    edge_key, rank_key = rng.keys(sequence)
    drawn_levels = parameters.directed and draws_levels(parameters)
    if drawn_levels:
        top = _resolution(parameters)
        max_level = top - 1 if top else parameters.n_tokens
    else:
        survival = draw_survival(parameters, sequence, ratio)
        max_level = survival.max_level
    dtype = level_type(max_level)
    width = _width(parameters)
    pool = ThreadPoolExecutor(threads)  # starts no thread before it is given work
    if drawn_levels and width:
        step = _random_step(parameters, (edge_key, rank_key), width, dtype, pool, threads)
    else:
        levels = _draw_levels(parameters, rank_key) if drawn_levels else _stored_levels(survival)
        step = _step(parameters, edge_key, levels, dtype)
    value = np.zeros(parameters.n_tokens + 1, dtype=dtype)
    value[sources_of(parameters)] = max_level + 1
    below = np.empty_like(value)
    last, last_model = np.zeros((2, parameters.n_tokens), dtype=dtype)
    last_layer = np.zeros(max_level + 2, dtype=np.int64)
    answer_last_layer = np.empty((parameters.n_layers, len(answers)), dtype=dtype)
    with pool:
        for layer in range(parameters.n_layers, 0, -1):
            step(layer, value, below, last)
            np.maximum(last_model, last, out=last_model)
            stream.tally(last, last_layer)
            answer_last_layer[layer - 1] = last[answers]
            value, below = below, value
    if not parameters.directed:
        sources, prune = sources_of(parameters), parameters.prune
        graph = draw_graph(parameters, sequence)
        value = (weak_thresholds(graph, survival, sources, prune, parameters.residual) + 1).astype(dtype)
    return Passed(max_level, value, last_model, last_layer, answer_last_layer)


def sources_of(parameters: Parameters) -> NDArray[np.int64]:
    """Return the positions at the top layer where routes start, int64[...]."""
    first = parameters.n_tokens if parameters.source == "query" else 0
    return np.arange(first, parameters.n_tokens + 1)


def draws_levels(parameters: Parameters) -> bool:
    """Return whether the levels of a layer can be drawn without those of the others."""
    drawn = declared(parameters.policy).draws
    return drawn == "levels" or (drawn == "orders" and parameters.independent)


def _resolution(parameters: Parameters) -> int:
    """Return on how many levels slots die independently; 0: each slot of a head at a level of its own."""
    if declared(parameters.policy).draws != "levels":
        return 0
    return int({**policies.parameters(parameters.policy), **dict(parameters.policy_parameters)}["resolution"])


def _width(parameters: Parameters) -> int:
    """Return how far back reads go, where they are uniform on that; 0 where they are not."""
    if parameters.ensemble == "uniform":
        return parameters.n_tokens + 1
    if parameters.ensemble == "window":
        return int({**ensembles.parameters("window"), **dict(parameters.ensemble_parameters)}["window"])
    return 0


def threads_each(parameters: Parameters, replicates: int, workers: int) -> int:
    """Return how many threads a replicate may use where there are more workers than replicates."""
    return max(1, workers // replicates) if parameters.n_tokens >= SHARED else 1


def _random_step(
    parameters: Parameters,
    keys: tuple[np.uint64, np.uint64],
    width: int,
    dtype: type[np.integer[Any]],
    pool: ThreadPoolExecutor,
    threads: int,
) -> Step:
    n = parameters.n_tokens
    shares = parts_of(parameters.n_heads, threads)
    scratch = [(np.zeros(n + 1, dtype), np.empty(n, dtype)) for _ in shares]
    others = [(np.empty(n + 1, dtype), np.empty(n, dtype)) for _ in shares[1:]]
    shape = (
        parameters.reads,
        width,
        _resolution(parameters),
        parameters.prune == "columns",
        parameters.residual,
    )

    def step(layer: int, value: Row, below: Row, last: Row) -> None:
        def draw(heads: tuple[int, int], own: tuple[Row, Row], into: tuple[Row, Row]) -> None:
            stream.random_layer(value, into[0], *own, into[1], *keys, layer, heads, *shape)

        places = [(below, last), *others]
        if others:
            list(pool.map(draw, shares, scratch, places))
        else:
            draw(shares[0], scratch[0], places[0])
        for more_below, more_last in others:
            np.maximum(below, more_below, out=below)
            np.maximum(last, more_last, out=last)

    return step


def _step(parameters: Parameters, edge_key: np.uint64, levels: Levels, dtype: type[np.integer[Any]]) -> Step:
    n_positions = parameters.n_tokens + 1
    best = np.zeros(n_positions * parameters.n_heads, dtype=dtype)
    columns = parameters.prune == "columns"

    def step(layer: int, value: Row, below: Row, last: Row) -> None:
        edges = parameters.draw_edges(edge_key, layer, n_positions)
        drop, slots = levels(layer), unsigned(edges.slots)
        reach.layer_pass(value, below, best, edges.indptr, slots, drop, columns, parameters.residual)
        stream.last_of_heads(drop, last)

    return step


def _draw_levels(parameters: Parameters, rank_key: np.uint64) -> Levels:
    top = _resolution(parameters)
    drop = np.empty((parameters.n_heads, parameters.n_tokens), dtype=np.int32)

    def levels(layer: int) -> NDArray[np.int32]:
        for head, row in enumerate(drop):
            if top:
                ranks.uniform_levels(rank_key, layer, head, top, row)
            else:
                ranks.permutation(rank_key, layer, head, row)
        return drop

    return levels


def _stored_levels(survival: Survival) -> Levels:
    return lambda layer: np.ascontiguousarray(survival.drop[layer - 1], dtype=np.int32)
