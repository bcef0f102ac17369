"""The softmax of one attention row, with what is summed over it, while the row is in the first cache.

The exponential is our own, since a loop over a library's is not SIMD under numba. 2**x is 2**whole by the bits of a
float, times a polynomial of the rest, which is in -1/2..1/2: Taylor's to the sixth power, off by 1.2e-7 at most, which
is a float's own rounding.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

_LOG2_E = np.float32(1.4426950408889634)
#: 2**-126 is the smallest float of full precision; a weight below it is 0.
_LEAST = np.float32(-126.0)
_HALF = np.float32(0.5)
#: Numbers compared side by side.
_LANES = 64
#: ln(2)**k / k!
_C1, _C2, _C3 = (
    np.float32(0.6931471805599453),
    np.float32(0.2402265069591007),
    np.float32(0.05550410866482158),
)
_C4, _C5, _C6 = (
    np.float32(0.009618129107628477),
    np.float32(0.0013333558146428443),
    np.float32(0.00015403530393381608),
)


@nb.njit(cache=True, nogil=True)
def largest(row, lanes):  # type: ignore[no-untyped-def]
    """Return the largest of a row, lane by lane: a running maximum alone is not SIMD.

    row, lanes : float32[n], n at least 1; lanes is scratch.
    """
    width = min(_LANES, len(row))
    lanes, whole = lanes[:width], len(row) - len(row) % width
    lanes[:] = row[:width]
    for begin in range(width, whole, width):
        block = row[begin : begin + width]
        for k in range(len(lanes)):
            lanes[k] = block[k] if block[k] > lanes[k] else lanes[k]
    most = lanes[0]
    for k in range(len(lanes)):
        most = max(most, lanes[k])
    for k in range(whole, len(row)):
        most = max(most, row[k])
    return most


# Sums in any order, so that they are SIMD: the same on every thread, not on every processor.
@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "nnan"})
def softmax_row(logits, weights, powers):  # type: ignore[no-untyped-def]
    """Set weights to the softmax of a row of logits, and return its entropy in nats.

    Parameters
    ----------
    logits, weights : float32[n]
        n at least 1; weights are overwritten.
    powers : int32[n]
        Scratch.
    """
    most = largest(logits, weights)
    for k in range(len(logits)):
        power = max((logits[k] - most) * _LOG2_E, _LEAST - np.float32(1))
        whole = np.int32(power - _HALF)  # towards zero; the power is not above it
        rest = power - np.float32(whole)
        some = _C6 * rest + _C5
        some = some * rest + _C4
        some = some * rest + _C3
        some = some * rest + _C2
        some = some * rest + _C1
        weights[k] = some * rest + np.float32(1)
        powers[k] = (whole + np.int32(127)) << np.int32(23) if power >= _LEAST else np.int32(0)
    scale = powers.view(np.float32)
    total, product = 0.0, 0.0
    for k in range(len(logits)):
        weight = weights[k] * scale[k]
        weights[k] = weight
        total += weight
        product += weight * max(
            logits[k] - most, np.float32(-128)
        )  # a weight of 0 times minus infinity is no number
    part = np.float32(1 / total)
    for k in range(len(logits)):
        weights[k] *= part
    return math.log(total) - product / total
