"""What the heads of a layer read: softmax, sums and the heaviest keys of every row while it is in the first cache."""

from __future__ import annotations

import numba as nb
import numpy as np

from routegraph.kernels.softmax import softmax_row

#: Keys looked at together.
_BLOCK = 64
#: Taken from the bits of a float, halves it.
_HALVED = 1 << 23


@nb.njit(cache=True, nogil=True)
def read_heads(  # type: ignore[no-untyped-def]
    logits, heads, start, window, top, mass, n_sink, sums, entropy, counts, keys, values, tops, beyond
):
    """Turn a block of logits into what some heads read: a softmax a row, and the keys with the most weight.

    Parameters
    ----------
    logits : float32[n_query_heads, n_queries, n_keys]
        Of a block of queries, the first at position `start`; keys after a query are not looked at.
    heads : (int, int)
        The first query head, and the one after the last: threads may share them out.
    start, window : int
        A query at position q sees the keys q - window + 1..q; window 0: all up to q.
    top : int
        Keys kept of a row, and every other one of weight `mass` or more. Above n_sink, so that the heaviest key beside
        the sinks is among them.
    mass : float
        Above 0.
    n_sink : int
        Positions at the start that count as sinks.
    sums : float64[n_query_heads, n_keys]
        Raised by the weights that each key receives.
    entropy : float64[n_query_heads]
        Raised by the entropies of the rows, in nats.
    counts : int64[n_query_heads, n_queries]
        Overwritten: how many keys are kept of each row.
    keys, values : int32, float32[n_query_heads, n_queries or more, top + int(1 / mass) + 1]
        Overwritten up to the count: keys of a weight above 0, and their weights.
    tops, beyond : int32[n_query_heads, n_queries]
        Overwritten: heaviest key; heaviest that is no sink (-1: none has a weight). Of equal ones the first.
    """
    n_queries, n_keys = logits.shape[1:]
    weights, powers = np.empty(n_keys, np.float32), np.empty(n_keys, np.int32)
    best = np.empty(top, np.int64)
    for head in range(heads[0], heads[1]):
        floor = np.int64(1)
        for query in range(n_queries):
            stop = start + query + 1
            first = max(0, stop - window) if window > 0 else 0
            seen, received = weights[first:stop], sums[head, first:stop]
            entropy[head] += softmax_row(logits[head, query, first:stop], seen, powers[first:stop])
            for k in range(len(seen)):
                received[k] += seen[k]
            place = keys[head, query], values[head, query]
            count, heaviest, other, floor = heaviest_of_row(
                seen, first, top, mass, n_sink, floor, best, *place
            )
            counts[head, query], tops[head, query], beyond[head, query] = count, heaviest, other


@nb.njit(cache=True, nogil=True)
def heaviest_of_row(weights, first, top, mass, n_sink, floor, best, keys, values):  # type: ignore[no-untyped-def]
    """Pick the `top` heaviest keys of a row, and every other one of weight `mass` or more.

    Parameters
    ----------
    weights : float32[n]
        Of the keys from position `first` on.
    floor : int
        Bits of a weight that the least of the heaviest probably has; any number from 1 on gives the same.
    best : int64[top]
        Scratch.
    keys, values : int32, float32[...]
        Overwritten.

    Returns
    -------
    count, heaviest, other, floor : int
        Keys kept; heaviest key; heaviest that is no sink, or -1; a floor for a row like this one.
    """
    # Floats that are not negative sort as their bits do. A weight and its key go in one number, so that all differ and
    # of equal weights the first key is the heavier one.
    row, heavy = weights.view(np.int32), np.array([mass], np.float32).view(np.int32)[0]
    low, least = np.int64(2**32 - 1), np.int64(-1)
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
    count, heaviest, other = 0, np.int64(-1), np.int64(-1)
    for new in best:
        if new > 0:
            key = low - (new & low)
            keys[count], values[count] = first + key, weights[key]
            count += 1
            heaviest = max(heaviest, new)
            other = max(other, new if first + key >= n_sink else np.int64(-1))
    if least >> 32 >= heavy:  # there may be more
        for key in range(len(row)):
            if row[key] >= heavy and ((np.int64(row[key]) << 32) | (low - key)) < least:
                keys[count], values[count] = first + key, weights[key]
                count += 1
    top_key = first + low - (heaviest & low) if heaviest > 0 else np.int64(first)
    other_key = first + low - (other & low) if other > 0 else np.int64(-1)
    return count, top_key, other_key, max((least >> 32) - _HALVED, np.int64(1))


@nb.njit(cache=True, nogil=True)
def edges_by_query(counts, keys, values, group):  # type: ignore[no-untyped-def]
    """Put the keys that the heads kept in the order of a graph: by query, then by query head.

    Parameters
    ----------
    counts, keys, values
        Of `read_heads`.
    group : int
        Query heads of a KV head.

    Returns
    -------
    edges : int64[n_queries]
        Edges of each query.
    slots : int32[n_edges]
        key * n_heads + head.
    weights : float32[n_edges]
    """
    n_query_heads, n_queries = counts.shape
    n_heads = n_query_heads // group
    edges, n = np.zeros(n_queries, np.int64), 0
    slots, weights = np.empty(counts.sum(), np.int32), np.empty(counts.sum(), np.float32)
    for query in range(n_queries):
        for head in range(n_query_heads):
            for k in range(counts[head, query]):
                slots[n] = keys[head, query, k] * n_heads + head // group
                weights[n] = values[head, query, k]
                n += 1
            edges[query] += counts[head, query]
    return edges, slots, weights
