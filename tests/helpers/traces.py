"""Traces that are made up: of one factor, and of our own simulator."""

from dataclasses import replace

import numpy as np
from scipy.special import ndtr

from routegraph.sim.ensembles.empirical import ReadStatistics
from routegraph.trace import Trace
from routegraph.validate.compare.simulated import draw_reads

SHAPE = (4, 3)


def synthetic_trace(number, rho=0.4, n=200, sinks=4, answers=(50, 51, 120)):
    """A trace whose slots follow a one-factor model exactly."""
    rng = np.random.default_rng(number)
    scores = np.sqrt(rho) * rng.standard_normal(n) + np.sqrt(1 - rho) * rng.standard_normal((*SHAPE, n))
    scores = ndtr(scores).astype(np.float32)
    scores[..., :sinks] = 2
    return Trace(
        id=f"synthetic-{number}",
        task="none",
        model="one-factor",
        context="x" * n,
        n_layers=SHAPE[0],
        n_heads=SHAPE[1],
        n_query_heads=SHAPE[1],
        n_context=n,
        token_ids=np.zeros(n, dtype=np.int64),
        offsets=np.stack([np.arange(n), np.arange(1, n + 1)], axis=1),
        answer=np.array(answers, dtype=np.int64),
        evidence=np.array(answers, dtype=np.int64),
        scores={"expected_attention": scores},
        scorers={"expected_attention": {"n_sink": sinks}},
    )


#: How the heads of `traced` read: 4 to 8 reads each, some to the sink, head 2 farther back than the others.
READS = ReadStatistics(
    degrees=np.array([[[4], [6], [8]]] * 4),
    to_sink=np.full(SHAPE, 0.2),
    octaves=np.array([[[0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0]] * 2 + [[0.05] * 4 + [0.2] * 4]] * 4),
    popularity=np.array([0.3, 0.6, 0.9, 2.2]),
)


def traced(number, scores=0.4, heavy=0.5, n=200):
    """A trace made by our own simulator: correlated scores, and reads of which a share `heavy` is heavy."""
    graph = draw_reads(READS, SHAPE, n, seed=99, prompt=number, repeat=0)
    weight = np.where(np.random.default_rng(number).random(graph.n_edges) < heavy, 0.2, 0.02)
    graph = replace(graph, weight=weight.astype(np.float32))
    return replace(synthetic_trace(number, scores, n), graph=graph)


def deep(number, model="smollm2", layers=14, n=60, rising=True):
    """A trace whose four query heads read one key in early layers and four in late ones, or the other way round."""
    trace = synthetic_trace(number, n=200)
    apart = np.linspace(0, 1, layers) if rising else np.linspace(1, 0, layers)
    rng = np.random.default_rng(number)
    own = rng.random((layers, 4, n)) < apart[:, None, None]
    tops = np.where(own, np.arange(1, 5)[None, :, None], 0).astype(np.int32)
    return replace(
        trace,
        model=model,
        n_layers=layers,
        n_query_heads=4,
        tops=tops,
        tops_without_sink=tops,
        task=f"t{number % 2}",
    )
