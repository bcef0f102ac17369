"""The graphs that are timed."""

from __future__ import annotations

import numpy as np

from routegraph import Survival, TokenGraph
from routegraph.kernels import rng
from routegraph.sim.draw import draw_survival
from routegraph.sim.ensembles.base import join
from routegraph.sim.parameters import Parameters

#: The 1 % grid: 0, 1/101, ..., 100/101.
RATIOS = np.arange(101) / 101


def stored(
    n_layers: int = 16, n_positions: int = 2048, n_heads: int = 8, reads: int = 4
) -> tuple[TokenGraph, Survival]:
    """A stored graph of n_layers * n_positions * n_heads * reads edges, uniform reads, random eviction."""
    parameters = Parameters(n_tokens=n_positions - 1, n_layers=n_layers, n_heads=n_heads, degree=reads)
    sequence = rng.seed_sequence(0, 0, 0)
    edge_key, _ = rng.keys(sequence)
    layers = [parameters.draw_edges(edge_key, layer, n_positions) for layer in range(1, n_layers + 1)]
    graph = join(layers, None, n_heads, n_positions, n_positions - 1)
    return graph, draw_survival(parameters, sequence)
