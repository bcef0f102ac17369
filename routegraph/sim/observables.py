"""What is read off a simulation: functions of (sample, levels) to one number a replicate and level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.registry import Registry

Curves = NDArray[np.float64]

#: Registry of observables; `observable` is its decorator.
observables = observable = Registry("observable")


@dataclass(frozen=True, eq=False)
class Sample:
    """Everything one replicate can tell at any level, as integer levels; stacked over R replicates.

    A token is gone at a level from `last` on, and reached up to its threshold.

    Attributes
    ----------
    last_model : int64[R, max_level + 2]
        Number of context tokens whose last slot of the whole model dies at each level.
    last_layer : int64[R, max_level + 2]
        The same for the heads of one layer, summed over layers.
    reach : int64[R, max_level + 2]
        Number of context tokens at each (threshold + 1).
    answer_last_model : int[R, n_answers]
    answer_last_layer : int[R, n_layers, n_answers]
    answer_reach : int[R, n_answers]
        Thresholds (-1: never reached).
    """

    last_model: NDArray[Any]
    last_layer: NDArray[Any]
    reach: NDArray[Any]
    answer_last_model: NDArray[Any]
    answer_last_layer: NDArray[Any]
    answer_reach: NDArray[Any]

    @property
    def n_replicates(self) -> int:
        """Number of replicates, R."""
        return len(self.answer_reach)

    @property
    def n_answers(self) -> int:
        """Number of answer tokens in each replicate."""
        return int(self.answer_reach.shape[1])


def _at_most(histogram: NDArray[Any], levels: ArrayLike) -> Curves:
    """Return the fraction of tokens at or below each level, float64[R, n_levels]."""
    total = np.cumsum(histogram, axis=1)
    return np.asarray(total[:, np.asarray(levels)] / total[:, -1:])


def _reached(sample: Sample, levels: ArrayLike) -> NDArray[np.bool_]:
    """Return which answer tokens are reached, bool[R, n_levels, n_answers]."""
    return np.asarray(sample.answer_reach[:, None, :] >= np.asarray(levels)[:, None])


@observable("ger")
def ger(sample: Sample, levels: ArrayLike) -> Curves:
    """Fraction of the answer tokens gone from every slot of the model (GER)."""
    return np.asarray((sample.answer_last_model[:, None, :] <= np.asarray(levels)[:, None]).mean(axis=2))


@observable("all_gone")
def all_gone(sample: Sample, levels: ArrayLike) -> Curves:
    """Whether every answer token is gone from every slot of the model (erasure, the event E)."""
    return (sample.answer_last_model[:, None, :] <= np.asarray(levels)[:, None]).all(axis=2).astype(float)


@observable("eviction_rate")
def eviction_rate(sample: Sample, levels: ArrayLike) -> Curves:
    """Fraction of all context tokens gone from every slot of the model."""
    return _at_most(sample.last_model, levels)


@observable("ger_layer")
def ger_layer(sample: Sample, levels: ArrayLike) -> Curves:
    """Fraction of the answer tokens gone from all heads of a layer, averaged over layers."""
    gone = sample.answer_last_layer[:, None] <= np.asarray(levels)[:, None, None]
    return np.asarray(gone.mean(axis=(2, 3)))


@observable("eviction_rate_layer")
def eviction_rate_layer(sample: Sample, levels: ArrayLike) -> Curves:
    """Fraction of all context tokens gone from all heads of a layer, averaged over layers."""
    return _at_most(sample.last_layer, levels)


@observable("reach_fraction")
def reach_fraction(sample: Sample, levels: ArrayLike) -> Curves:
    """Fraction of all context tokens that a surviving route joins to the query."""
    return 1 - _at_most(sample.reach, levels)


@observable("reach_any")
def reach_any(sample: Sample, levels: ArrayLike) -> Curves:
    """Whether at least one answer token is reached from the query."""
    return _reached(sample, levels).any(axis=2).astype(float)


@observable("reach_all")
def reach_all(sample: Sample, levels: ArrayLike) -> Curves:
    """Whether every answer token is reached from the query."""
    return _reached(sample, levels).all(axis=2).astype(float)


@observable("reach_answers")
def reach_answers(sample: Sample, levels: ArrayLike) -> Curves:
    """Fraction of the answer tokens reached from the query."""
    return np.asarray(_reached(sample, levels).mean(axis=2))


@observable("survives")
def survives(sample: Sample, levels: ArrayLike) -> Curves:
    """Whether the query reaches any context token at all (survival of a single seed)."""
    return (_at_most(sample.reach, levels) < 1).astype(float)
