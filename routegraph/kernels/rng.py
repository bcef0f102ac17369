"""The counter-based random numbers behind edges and random ranks.

A number is a pure function of (key, layer, head, position, draw): no state, so a graph drawn inside a pass
equals the stored one, at any thread count. Every (key, layer, head) names one SplitMix64 stream
(Steele, Lea, Flood 2014; finaliser "variant 13" of Stafford) and (draw, position) the place in it.
"""

from __future__ import annotations

import numba as nb
import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31, _S32 = (np.uint64(s) for s in (11, 27, 30, 31, 32))
_UNIT = 2.0**-53

#: Purposes of the generators of a replicate; each draws from a stream of its own.
SCORES, ANSWERS, POLICY = 0, 1, 2


@nb.njit(inline="always", cache=True)
def _mix(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> _S30)) * _MIX1
    x = (x ^ (x >> _S27)) * _MIX2
    return x ^ (x >> _S31)


@nb.njit(inline="always", cache=True)
def stream(key, layer, head):  # type: ignore[no-untyped-def]
    """Return the uint64 stream of (key, layer, head); layer and head below 2**32."""
    return _mix(key + _GAMMA * (_mix((np.uint64(layer) << _S32) + np.uint64(head) + _GAMMA) | np.uint64(1)))


@nb.njit(inline="always", cache=True)
def uniform(stream, position, draw):  # type: ignore[no-untyped-def]
    """Return a float64 in [0, 1) with 53 random bits; position and draw below 2**32."""
    counter = (np.uint64(draw) << _S32) + np.uint64(position) + np.uint64(1)
    return np.float64(_mix(stream + _GAMMA * counter) >> _S11) * _UNIT


@nb.njit(inline="always", cache=True)
def below(stream, position, draw, bound):  # type: ignore[no-untyped-def]
    """Return an int64 uniform on 0..bound-1; 53 random bits, so the bias is below bound / 2**53.

    The product never rounds up to `bound`: the largest uniform is 1 - 2**-53.
    """
    return np.int64(uniform(stream, position, draw) * bound)


def seed_sequence(seed: int, cell: int, replicate: int) -> np.random.SeedSequence:
    """Return the SeedSequence of one replicate of one cell."""
    return np.random.SeedSequence(seed, spawn_key=(cell, replicate))


def keys(sequence: np.random.SeedSequence) -> tuple[np.uint64, np.uint64]:
    """Return the (edge key, rank key) of a replicate for the counter-based functions above."""
    edge_key, rank_key = sequence.generate_state(2, np.uint64)
    return np.uint64(edge_key), np.uint64(rank_key)


def generator(sequence: np.random.SeedSequence, purpose: int) -> np.random.Generator:
    """Return numpy's Generator of a replicate for one purpose (`SCORES`, `ANSWERS`, `POLICY`)."""
    child = np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, purpose))
    return np.random.default_rng(child)


def seed_of(sequence: np.random.SeedSequence) -> int:
    """Return the seed that a policy which draws is given in a replicate."""
    return int(generator(sequence, POLICY).integers(2**63))
