"""The softmax of one attention row, with what is summed over it, while the row is in the first cache.

The exponential is our own, since a loop over a library's is not SIMD under numba. 2**x is 2**whole by the bits of a
float, times a polynomial of the rest, which is in -1/2..1/2: of the fifth power, 1 at 0, its greatest relative error
made as small as can be (a linear programme). In floats it is off by 1.9e-7 at most, Taylor's to the sixth by 2.4e-7.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

_LOG2_E = np.float32(1.4426950408889634)
#: A power of 2 below every float of full precision: what is lower counts as 0.
_NOTHING = np.float32(-127.0)
_HALF = np.float32(0.5)
#: Sums in any order, so that they are SIMD: the same on every thread, not on every processor.
ANY_ORDER = {"reassoc", "contract", "nsz", "nnan"}
#: Numbers of a row that are worked on, and summed in float32, together.
CHUNK = 256
#: Of the polynomial.
_C1, _C2, _C3 = (
    np.float32(0.6931470036506653),
    np.float32(0.24022242426872253),
    np.float32(0.05550733953714371),
)
_C4, _C5 = np.float32(0.009671511128544807), np.float32(0.001326465280726552)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=ANY_ORDER)
def exponentials(row, most):  # type: ignore[no-untyped-def]
    """Turn a row of logits into exp(logit - most), the softmax but for one division a row.

    Parameters
    ----------
    row : float32[n]
        Overwritten; n at least 1.
    most : float32
        The largest of the row.

    Returns
    -------
    scale : float32
        What turns the row into weights that sum to 1: one over its sum.
    entropy : float
        Of these weights, in nats.
    """
    total, product = np.float64(0), np.float64(0)
    for begin in range(0, len(row), CHUNK):
        chunk = row[begin : begin + CHUNK]
        some_total, some_product = np.float32(0), np.float32(0)
        for k in range(len(chunk)):
            power = max((chunk[k] - most) * _LOG2_E, _NOTHING)
            whole = np.int32(power - _HALF)  # towards zero; the power is not above it
            rest = power - np.float32(whole)
            some = _C5 * rest + _C4
            some = some * rest + _C3
            some = some * rest + _C2
            some = some * rest + _C1
            some = some * rest + np.float32(1)
            value = some * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)
            some_total += value
            some_product += value * power
            chunk[k] = value
        total += some_total
        product += some_product
    return np.float32(1 / total), math.log(total) - math.log(2) * product / total
