"""Counting kernel of the copula theories."""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True)
def count_all_below(scores, thresholds):  # type: ignore[no-untyped-def]
    """Return int64[n_columns]: how many rows of scores[n_draws, M] lie below thresholds[column] everywhere.

    thresholds is float[n_columns, M].
    """
    counts = np.zeros(len(thresholds), np.int64)
    for draw in range(len(scores)):
        for column in range(len(thresholds)):
            gone = True
            for slot in range(scores.shape[1]):
                if scores[draw, slot] >= thresholds[column, slot]:
                    gone = False
                    break
            counts[column] += gone
    return counts
