"""Gaussian noise on the logits of attention rows: other weights, and what moved."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from routegraph.kernels.popularity import normal
from routegraph.kernels.rng import stream


@nb.njit(cache=True, nogil=True)
def noisy_rows(indptr, weights, noise, alive, key):  # type: ignore[no-untyped-def]
    """Multiply the weights of rows by exp(noise * z), z standard normal, keep what is alive, and rescale.

    Parameters
    ----------
    indptr : int64[n_rows + 1]
        Reads of each row.
    weights : float64[n_reads]
        Not negative.
    noise : float64[n_rows]
        Standard deviation of every logit of the row, at least 0.
    alive : bool[n_reads]
        What the row may still read.
    key : uint64
        Of the random numbers: read j of row i has those of (key, 0, i, position 0, draws 2 j and 2 j + 1).

    Returns
    -------
    made : float64[n_reads]
        What is read afterwards: of each row the sum is as before, but where nothing is alive, 0.
    moved : float64[n_rows]
        Share of the row's weight that is read elsewhere or nowhere: half the sum of |after - before|, and what is lost.
        0 for a row without weight.
    stays : bool[n_rows]
        Whether the heaviest read is the same, of equal ones the first. True for a row without weight.

    Notes
    -----
    Noise is taken relative to the largest logit alive, so that no weight overflows however large it is.
    """
    n_rows = len(indptr) - 1
    made = np.zeros(len(weights))
    moved, stays = np.zeros(n_rows), np.ones(n_rows, np.bool_)
    for row in range(n_rows):
        start, stop = indptr[row], indptr[row + 1]
        own = stream(key, 0, row)
        total, first = 0.0, -1
        largest, last = -np.inf, -1
        for e in range(start, stop):
            total += weights[e]
            if weights[e] > 0 and (first < 0 or weights[e] > weights[first]):
                first = e
            if alive[e] and weights[e] > 0:
                logit = math.log(weights[e])
                if noise[row] > 0:
                    logit += noise[row] * normal(own, 0, 2 * (e - start))
                made[e] = logit
                if logit > largest:
                    largest, last = logit, e
        if first < 0:
            continue
        stays[row] = first == last
        after = 0.0
        for e in range(start, stop):
            made[e] = math.exp(made[e] - largest) if alive[e] and weights[e] > 0 else 0.0
            after += made[e]
        apart, read = 0.0, 0.0
        for e in range(start, stop):
            if after > 0:
                made[e] *= total / after
            read += made[e]
            apart += abs(made[e] - weights[e])
        moved[row] = (apart + total - read) / (2 * total)
    return made, moved, stays
