"""The heaviest keys of attention rows, in one look at each weight."""

from __future__ import annotations

import numba as nb
import numpy as np


@nb.njit(cache=True, nogil=True)
def heaviest_keys(weights, start, n_heads, top, mass, n_sink):  # type: ignore[no-untyped-def]
    """Pick the `top` heaviest keys of every row, and every other one of weight `mass` or more.

    Parameters
    ----------
    weights : float32[n_query_heads, n_queries, n_keys]
        Attention of a block of queries, the first at position `start`; keys after a query are not looked at.
    start : int
    n_heads : int
        KV heads; the query heads of a group lie side by side.
    top : int
        Above n_sink, so that a row's heaviest key beside the sinks is among its heaviest.
    mass : float
        Above 0.
    n_sink : int
        Positions at the start that count as sinks.

    Returns
    -------
    counts : int64[n_queries]
        Edges of each query; a key of weight 0 is none.
    slots : int32[n_edges]
        key * n_heads + head, by query, then by query head.
    values : float32[n_edges]
    tops, beyond : int32[n_query_heads, n_queries]
        Heaviest key; heaviest that is no sink (-1: none has a weight). Of equal ones the first.
    """
    n_query_heads, n_queries, _ = weights.shape
    group = n_query_heads // n_heads
    counts = np.zeros(n_queries, np.int64)
    size = n_queries * n_query_heads * (top + int(1 / mass) + 1)
    slots, values = np.empty(size, np.int32), np.empty(size, np.float32)
    tops, beyond = np.empty((2, n_query_heads, n_queries), np.int32)
    best, key_of = np.zeros(top, np.float32), np.zeros(top, np.int32)
    n = 0
    for query in range(n_queries):
        for head in range(n_query_heads):
            row, kv_head = weights[head, query, : start + query + 1], head // group
            best[:] = 0
            least = np.float32(0)
            for key in range(len(row)):
                if row[key] > least:  # goes in after all that are as heavy
                    place = top - 1
                    while place > 0 and best[place - 1] < row[key]:
                        best[place], key_of[place] = best[place - 1], key_of[place - 1]
                        place -= 1
                    best[place], key_of[place] = row[key], key
                    least = best[top - 1]
            first = n
            tops[head, query], beyond[head, query] = key_of[0] if best[0] > 0 else 0, -1
            for rank in range(top):
                if best[rank] > 0:
                    slots[n], values[n] = key_of[rank] * n_heads + kv_head, best[rank]
                    n += 1
                    if beyond[head, query] < 0 and key_of[rank] >= n_sink:
                        beyond[head, query] = key_of[rank]
            if least >= mass:  # there may be more
                for key in range(len(row)):
                    late = row[key] == least and key > key_of[top - 1]
                    if mass <= row[key] and (row[key] < least or late):
                        slots[n], values[n] = key * n_heads + kv_head, row[key]
                        n += 1
            counts[query] += n - first
    return counts, slots[:n].copy(), values[:n].copy(), tops, beyond
