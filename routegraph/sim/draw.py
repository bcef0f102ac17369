"""Drawing one replicate: its graph, its scores and what survives, its answer tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph import policies
from routegraph.graph import TokenGraph
from routegraph.kernels import rng
from routegraph.kernels.ranks import permutations
from routegraph.policies.bernoulli import bernoulli_survival
from routegraph.sim.ensembles.base import draw_weights, join
from routegraph.sim.fields import tie_to_attention
from routegraph.sim.parameters import Parameters
from routegraph.survival import Survival


def draw_answers(parameters: Parameters, sequence: np.random.SeedSequence) -> NDArray[np.int64]:
    """Draw the answer tokens, uniform without replacement, int64[n_answers]."""
    generator = rng.generator(sequence, rng.ANSWERS)
    return generator.choice(parameters.n_tokens, parameters.n_answers, replace=False, shuffle=False)


def draw_survival(
    parameters: Parameters, sequence: np.random.SeedSequence, ratio: float | None = None
) -> Survival:
    """Draw scores and evict by the policy; one that is not nested needs the ratio.

    What a policy draws for each slot by itself comes straight from the counter-based numbers; on scores that are
    not independent, random orders are those of the scores. Another policy that takes a seed is given one.
    """
    _, rank_key = rng.keys(sequence)
    drawn = policies.declared(parameters.policy).draws
    if drawn == "levels":
        return bernoulli_survival(rank_key, parameters.shape, parameters.levels_of().max_level + 1)
    if drawn == "orders" and parameters.independent:
        return Survival(permutations(rank_key, *parameters.shape))
    generator = rng.generator(sequence, rng.SCORES)
    scores = parameters.field().draw(generator, parameters.n_heads, parameters.n_tokens)
    if parameters.attention_tie:
        scores = tie_to_attention(scores, count_reads(parameters, sequence), parameters.attention_tie)
    if parameters.answer_shift:
        scores[..., draw_answers(parameters, sequence)] += np.float32(parameters.answer_shift)
    if drawn == "orders":
        return Survival(policies.eviction_order(scores))
    own = dict(parameters.policy_parameters)
    if policies.is_seeded(parameters.policy):
        own["seed"] = rng.seed_of(sequence)
    return policies.apply(parameters.policy, scores, ratio=ratio, **own)


def count_reads(parameters: Parameters, sequence: np.random.SeedSequence) -> NDArray[np.int64]:
    """Return how often each cache row is read in each slot, int64[n_layers, n_heads, n_tokens]."""
    edge_key, _ = rng.keys(sequence)
    n_layers, n_heads, n_tokens = parameters.shape
    counts = np.empty(parameters.shape, dtype=np.int64)
    for layer in range(1, n_layers + 1):
        slots = parameters.draw_edges(edge_key, layer, n_tokens + 1).slots
        reads = np.bincount(slots, minlength=(n_tokens + 1) * n_heads).reshape(n_tokens + 1, n_heads)
        counts[layer - 1] = reads[:n_tokens].T
    return counts


def draw_graph(parameters: Parameters, sequence: np.random.SeedSequence) -> TokenGraph:
    """Return the whole graph of a replicate, the one a simulation walks layer by layer; weighted.

    A query head's k-th read of its layer carries a share of 1 / k of its attention.
    """
    edge_key, _ = rng.keys(sequence)
    n_positions = parameters.n_tokens + 1
    layers = [
        parameters.draw_edges(edge_key, layer, n_positions) for layer in range(1, parameters.n_layers + 1)
    ]
    weights = []
    for edges in layers:
        count = len(edges.slots)
        full = count == n_positions * parameters.n_heads * parameters.reads
        weights.append(draw_weights(count, parameters.degree) if full else np.ones(count, dtype=np.float32))
    return join(layers, weights, parameters.n_heads, n_positions, parameters.n_tokens)
