"""The heaviest keys of attention rows, in one look at each weight."""

from __future__ import annotations

import numba as nb
import numpy as np

#: Keys looked at together.
_BLOCK = 64
#: Taken from the bits of a float, halves it.
_HALVED = 1 << 23


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
    # Floats that are not negative sort as their bits do. A weight and its key go in one number, so that all differ and
    # of equal weights the first key is the heavier one.
    bits, heavy = weights.view(np.int32), np.array([mass], np.float32).view(np.int32)[0]
    best, low = np.empty(top, np.int64), np.int64(2**32 - 1)
    floors = np.ones(n_query_heads, np.int64)
    n = 0
    for query in range(n_queries):
        for head in range(n_query_heads):
            row, kv_head = bits[head, query, : start + query + 1], head // group
            floor, least = floors[head], np.int64(-1)
            while least < 0:  # a second time only if too few were as heavy as the row before made likely
                for place in range(top):
                    best[place] = place - top  # nothing yet
                least, stop = np.int64(-top), len(row)
                while stop > 0:  # backwards: heads look at what is near, so that most blocks hold nothing new
                    begin, enough = max(stop - _BLOCK, 0), max(least >> 32, floor)
                    block, most = row[begin:stop], np.int32(0)
                    for k in range(len(block)):
                        most = max(most, block[k])
                    if most >= enough:
                        for k in range(len(block)):
                            if block[k] >= enough:
                                new = (np.int64(block[k]) << 32) | (low - begin - k)
                                if new > least:  # two loops without a branch: faster than keeping order
                                    for place in range(top):
                                        best[place] = new if best[place] == least else best[place]
                                    least = best[0]
                                    for place in range(top):
                                        least = min(least, best[place])
                                    enough = max(least >> 32, floor)
                    stop = begin
                if floor == 1:
                    break
                floor = np.int64(1)
            floors[head] = max((least >> 32) - _HALVED, np.int64(1))
            first, heaviest, other = n, np.int64(-1), np.int64(-1)
            for new in best:
                if new > 0:
                    key = low - (new & low)
                    slots[n], values[n] = key * n_heads + kv_head, weights[head, query, key]
                    n += 1
                    heaviest = max(heaviest, new)
                    other = max(other, new if key >= n_sink else np.int64(-1))
            tops[head, query] = low - (heaviest & low) if heaviest > 0 else 0
            beyond[head, query] = low - (other & low) if other > 0 else -1
            if least >> 32 >= heavy:  # there may be more
                for key in range(len(row)):
                    if row[key] >= heavy and ((np.int64(row[key]) << 32) | (low - key)) < least:
                        slots[n], values[n] = key * n_heads + kv_head, weights[head, query, key]
                        n += 1
            counts[query] += n - first
    return counts, slots[:n].copy(), values[:n].copy(), tops, beyond
