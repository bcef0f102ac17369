"""What is measured on the stored graph of each replicate, at the asked ratios only.

A measure is ``(replicate, ratios) -> float[n_ratios]``, registered with `@measure`. Where an `@observable`
can be read off the stored levels at any ratio afterwards, a measure may look at everything: graph,
survival, answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from routegraph import attention, flow, percolation, routes
from routegraph.graph import TokenGraph
from routegraph.registry import Registry
from routegraph.sim.draw import draw_answers, draw_graph, draw_survival
from routegraph.sim.parameters import Parameters
from routegraph.survival import Survival

Curve = NDArray[np.float64]

#: Registry of measures; `measure` is its decorator.
measures = measure = Registry("measure")


@dataclass(frozen=True)
class Replicate:
    """Everything drawn for one replicate, made when first asked for.

    Attributes
    ----------
    parameters : Parameters
    sequence : numpy.random.SeedSequence
        What its random numbers come from.
    ratio : float or None
        The one ratio that `survival` holds for, where the policy is not nested.
    survival : Survival
    graph : TokenGraph
        With attention weights.
    query : int
        Position of the query, the last one.
    answers : int64[n_answers]
    """

    parameters: Parameters
    sequence: np.random.SeedSequence
    ratio: float | None = None

    @cached_property
    def survival(self) -> Survival:
        """Level at which each slot dies."""
        return draw_survival(self.parameters, self.sequence, self.ratio)

    @cached_property
    def graph(self) -> TokenGraph:
        """Read edges, with weights."""
        return draw_graph(self.parameters, self.sequence)

    @cached_property
    def answers(self) -> NDArray[np.int64]:
        """Answer tokens."""
        return draw_answers(self.parameters, self.sequence)

    @property
    def query(self) -> int:
        """Position of the query."""
        return self.parameters.n_tokens

    @cached_property
    def thresholds(self) -> NDArray[np.int64]:
        """Largest level at which each answer token is reached."""
        p = self.parameters
        found = routes.reach_thresholds(self.graph, self.survival, self.query, p.prune, p.residual)
        return found[self.answers]


@measure("widest_path")
def widest_path(replicate: Replicate, ratios: Sequence[float]) -> Curve:
    """Width, in attention weight, of the widest surviving route to any answer token."""
    p = replicate.parameters
    args = (replicate.graph, replicate.survival, replicate.query)
    widths = [attention.widest_path(*args, ratio, p.prune, p.residual) for ratio in ratios]
    return np.array([width[replicate.answers].max() for width in widths], dtype=float)


@measure("rollout")
def rollout(replicate: Replicate, ratios: Sequence[float]) -> Curve:
    """Attention mass that rolls from the query to the answer tokens over surviving slots."""
    args = (replicate.graph, replicate.survival, replicate.query)
    masses = [attention.rollout(*args, ratio, replicate.parameters.prune) for ratio in ratios]
    return np.array([mass[replicate.answers].sum() for mass in masses])


@measure("disjoint_routes")
def disjoint_routes(replicate: Replicate, ratios: Sequence[float]) -> Curve:
    """Count the slot-disjoint routes from the query to the first answer token; NaN where nothing cuts them."""
    p = replicate.parameters
    token = int(replicate.answers[0])
    args = (replicate.graph, replicate.survival, replicate.query, token)
    levels = replicate.survival.levels(ratios).tolist()
    counts = [flow.disjoint_routes(*args, level, p.prune, p.residual) for level in levels]
    return np.array([np.nan if count == flow.UNCUTTABLE else count for count in counts])


@measure("ticket_level")
def ticket_level(replicate: Replicate, ratios: Sequence[float]) -> Curve:
    """Level, as a fraction of max_level, up to which the winning ticket of the best answer token lives."""
    level = replicate.thresholds.max() / replicate.survival.max_level
    return np.full(len(ratios), level)


@measure("ticket_length")
def ticket_length(replicate: Replicate, ratios: Sequence[float]) -> Curve:
    """Length, in reads, of the winning ticket of the best answer token; NaN where there is none."""
    p = replicate.parameters
    best = int(replicate.answers[replicate.thresholds.argmax()])
    args = (replicate.graph, replicate.survival, replicate.query, best)
    ticket = routes.winning_ticket(*args, p.prune, p.residual)
    return np.full(len(ratios), np.nan if ticket is None else len(ticket))


@measure("backbone")
def backbone(replicate: Replicate, ratios: Sequence[float]) -> Curve:
    """Slots that alone keep every still reached answer token reached (greedy); 0 where none is reached."""
    p = replicate.parameters
    sizes = []
    for level in replicate.survival.levels(ratios).tolist():
        kept = replicate.answers[replicate.thresholds >= level]
        args = (replicate.graph, replicate.survival, replicate.query, kept, level)
        sizes.append(len(routes.backbone(*args, p.prune, p.residual) or []) if len(kept) else 0)
    return np.array(sizes, dtype=float)


@measure("largest_component")
def largest_component(replicate: Replicate, ratios: Sequence[float]) -> Curve:
    """Largest weakly connected component of the surviving read edges, as a fraction of all nodes."""
    p = replicate.parameters
    sizes = percolation.largest_component(replicate.graph, replicate.survival, p.prune, p.residual)
    nodes = (p.n_layers + 1) * (p.n_tokens + 1)
    return np.asarray(sizes[replicate.survival.levels(ratios)] / nodes)


@measure("consensus")
def consensus(replicate: Replicate, ratios: Sequence[float]) -> Curve:
    """Distinct top surviving keys over query heads / heads, mean over layers and context queries."""
    return _over_heads(replicate, ratios, attention.consensus, skip_first=0)


@measure("consensus_without_sink")
def consensus_without_sink(replicate: Replicate, ratios: Sequence[float]) -> Curve:
    """Consensus with the first 4 positions left out."""
    return _over_heads(replicate, ratios, attention.consensus, skip_first=4)


@measure("agreement")
def agreement(replicate: Replicate, ratios: Sequence[float]) -> Curve:
    """Largest fraction of query heads with one top surviving key, mean over layers and context queries."""
    return _over_heads(replicate, ratios, attention.agreement, skip_first=0)


@measure("agreement_without_sink")
def agreement_without_sink(replicate: Replicate, ratios: Sequence[float]) -> Curve:
    """Agreement with the first 4 positions left out."""
    return _over_heads(replicate, ratios, attention.agreement, skip_first=4)


def tops_by_layer(replicate: Replicate, ratio: float, skip_first: int = 0) -> NDArray[np.int64]:
    """Return the top surviving key of every query head of every cache row.

    int64[n_layers, n_tokens, n_query_heads]; -1 where a head has none. Needs an ensemble whose heads all
    read alike.
    """
    p = replicate.parameters
    graph = replicate.graph
    width = p.n_heads * p.reads
    if graph.n_edges != p.n_layers * graph.n_tokens * width:
        raise ValueError(f"consensus needs heads that read alike, not ensemble {p.ensemble!r}")
    slots = graph.slot.reshape(p.n_layers, graph.n_tokens, width)[:, : p.n_tokens].astype(np.int64)
    layer = np.arange(p.n_layers)[:, None, None]
    key, head = slots // p.n_heads, slots % p.n_heads
    alive = replicate.survival.drop[layer, head, key] > replicate.survival.level(ratio)
    shape = (p.n_layers, p.n_tokens, p.n_heads * p.group_size, p.degree)
    return attention.top_keys(key.reshape(shape), alive.reshape(shape), skip_first)


def _over_heads(
    replicate: Replicate,
    ratios: Sequence[float],
    function: Callable[[NDArray[np.int64]], Curve],
    skip_first: int,
) -> Curve:
    means = []
    for ratio in ratios:
        values = function(tops_by_layer(replicate, ratio, skip_first))
        means.append(np.nanmean(values) if np.isfinite(values).any() else np.nan)
    return np.array(means)
