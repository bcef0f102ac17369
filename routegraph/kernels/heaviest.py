"""What the heads of a layer read: softmax, sums and the heaviest keys of every row, while it is in the first caches."""

from __future__ import annotations

import numba as nb
import numpy as np

from routegraph.kernels.softmax import CHUNK, exponentials

#: Keys looked at together.
_BLOCK = 64
#: Below every number and its place.
_NONE = -(2**63)
#: Rounding may swap neighbours, so that a weight a little below the least of the heaviest may be above it.
_NEARLY = np.float32(0.999)
_LOW, _ALL_BUT_SIGN = 2**32 - 1, np.int32(2**31 - 1)


@nb.njit(cache=True, nogil=True)
def read_heads(  # type: ignore[no-untyped-def]
    logits, heads, start, window, top, mass, n_sink, sums, entropy, counts, keys, values, tops, beyond, scales
):
    """Turn a block of logits into what some heads read: a softmax a row, and the keys with the most weight.

    Parameters
    ----------
    logits : float32[n_query_heads, n_queries, n_keys]
        Of a block of queries, the first at position `start`; what a query does not see is not looked at. Overwritten
        by the weights, each row but for a factor, see `scales`; 0 where nothing is seen.
    heads : (int, int)
        The first query head, and the one after the last: threads may share them out.
    start, window : int
        A query at position q sees the keys q - window + 1..q; window 0: all up to q.
    top : int
        Keys kept of a row, and every other one of weight `mass` or more. Above n_sink, so that the heaviest key beside
        the sinks is among them.
    mass : float32
        Above 0.
    n_sink : int
        Positions at the start that count as sinks.
    sums : float64[n_query_heads, n_keys or more]
        Raised by the weights that each key receives.
    entropy : float64[n_query_heads]
        Raised by the entropies of the rows, in nats.
    counts : int64[n_query_heads, n_queries]
        Overwritten: how many keys are kept of each row.
    keys, values : int32, float32[n_query_heads, n_queries or more, top + int(1 / mass) + 1]
        Overwritten up to the count: keys of a weight above 0, and their weights.
    tops, beyond : int32[n_query_heads, n_queries]
        Overwritten: heaviest key; heaviest that is no sink (-1: none has a weight). Of equal ones the first.
    scales : float32[n_query_heads, n_queries]
        Overwritten: what a row of `logits` must now be multiplied by to sum to 1.
    """
    n_queries, n_keys = logits.shape[1:]
    part = np.empty(CHUNK, np.float32)
    blocks = np.empty(-(-n_keys // _BLOCK), np.int64)
    best = np.empty(top, np.int64)
    for head in range(heads[0], heads[1]):
        for query in range(n_queries):
            row, stop = logits[head, query], start + query + 1
            first = max(0, stop - window) if window > 0 else 0
            seen = row[first:stop]
            most = heaviest_of_row(seen, best, blocks)
            scale, spread = exponentials(seen, most)
            row[:first] = 0
            row[stop:] = 0
            found = kept_of_row(
                seen, scale, first, mass, n_sink, best, keys[head, query], values[head, query]
            )
            counts[head, query], tops[head, query], beyond[head, query] = found
            scales[head, query] = scale
            entropy[head] += spread
        add_rows(logits[head], scales[head], sums[head], part)


@nb.njit(cache=True, nogil=True)
def sortable(bits):  # type: ignore[no-untyped-def]
    """Turn the bits of a float, an int32, into an integer that sorts as the float does, and back."""
    return bits ^ ((bits >> np.int32(31)) & _ALL_BUT_SIGN)


@nb.njit(cache=True, nogil=True)
def largest_bits(bits):  # type: ignore[no-untyped-def]
    """Return the largest of some floats, told by their bits, sortable; of integers, unlike floats, SIMD finds it."""
    most = np.int32(-(2**31))
    for k in range(len(bits)):
        most = max(most, sortable(bits[k]))
    return np.int32(most)


@nb.njit(cache=True, nogil=True)
def heaviest_of_row(row, best, blocks):  # type: ignore[no-untyped-def]
    """Find the largest numbers of a row, block by block, the one with the largest number first.

    Parameters
    ----------
    row : float32[n]
        n at least 1.
    best : int64[top]
        Overwritten by the numbers, sortable, in the upper half, and 2**32 - 1 less their places in the lower one, in
        no order; of equal numbers the first are taken. `_NONE` where the row has no more.
    blocks : int64[ceil(n / 64) or more]
        Scratch.

    Returns
    -------
    most : float32
        The largest.
    """
    # A number and its place go in one integer, so that all differ and of equal numbers the first is the larger one.
    bits, top, n_blocks = row.view(np.int32), len(best), -(-len(row) // _BLOCK)
    for place in range(n_blocks):
        most = largest_bits(bits[place * _BLOCK : (place + 1) * _BLOCK])
        blocks[place] = (np.int64(most) << 32) | (_LOW - place)
    blocks = blocks[:n_blocks]
    # Of `top` sets of blocks each has its largest number: the least of these is the least of the heaviest at most.
    best[:] = _NONE
    for begin in range(0, n_blocks - top + 1, top):
        for place in range(top):
            best[place] = max(best[place], blocks[begin + place])
    enough = best.min() >> 32
    best[:] = _NONE
    n, least, fullest = 0, np.int64(_NONE), largest_of(blocks)
    most = np.int32(fullest >> 32)
    while fullest > _NONE and fullest >> 32 >= enough:
        place = _LOW - (fullest & _LOW)
        for k in range(place * _BLOCK, min((place + 1) * _BLOCK, len(bits))):
            number = np.int64(sortable(bits[k]))
            if number >= enough:
                new = (number << 32) | (_LOW - k)
                if n < top:
                    best[n], n = new, n + 1
                    least = best.min() if n == top else least
                else:
                    least = put(best, least, new)
                enough = max(enough, least >> 32)
        blocks[place] = _NONE
        fullest = largest_of(blocks)
    found = np.empty(1, np.int32)
    found[0] = sortable(most)
    return found.view(np.float32)[0]


@nb.njit(cache=True, nogil=True)
def largest_of(numbers):  # type: ignore[no-untyped-def]
    """Return the largest of int64[n], as numpy's does, but SIMD."""
    most = numbers[0]
    for k in range(len(numbers)):
        most = max(most, numbers[k])
    return most


@nb.njit(cache=True, nogil=True)
def put(best, least, new):  # type: ignore[no-untyped-def]
    """Put a number in the place of `least`, the least of `best`, if it is larger; return the least."""
    if new <= least:
        return least
    left = new
    for place in range(len(best)):  # without a branch: faster than keeping order
        kept = new if best[place] == least else best[place]
        best[place] = kept
        left = min(left, kept)
    return left


@nb.njit(cache=True, nogil=True)
def kept_of_row(row, scale, first, mass, n_sink, best, keys, values):  # type: ignore[no-untyped-def]
    """List the heaviest keys of a row, and every other one of weight `mass` or more.

    Parameters
    ----------
    row : float32[n]
        Weights of the keys from position `first` on, but for the factor `scale`.
    best : int64[top]
        Of `heaviest_of_row`, of the row's logits.
    keys, values : int32, float32[...]
        Overwritten.

    Returns
    -------
    count, heaviest, other : int
        Keys listed; heaviest key; heaviest that is no sink, or -1.
    """
    heaviest, other = np.int64(_NONE), np.int64(_NONE)
    count, lightest = 0, np.float32(1)
    for new in best:
        if new > _NONE:
            key = _LOW - (new & _LOW)
            weight = row[key] * scale
            lightest = min(lightest, weight)
            if weight > 0:
                keys[count], values[count] = first + key, weight
                count += 1
                heaviest = max(heaviest, new)
                if first + key >= n_sink:
                    other = max(other, new)
    n = count
    if n == len(best) and lightest >= mass * _NEARLY:  # there may be more
        bits, enough = row.view(np.int32), np.array([_NEARLY * mass / scale], np.float32).view(np.int32)[0]
        for begin in range(0, len(row), _BLOCK):
            block, some, most = row[begin : begin + _BLOCK], bits[begin : begin + _BLOCK], np.int32(0)
            for k in range(len(some)):  # floats that are not negative sort as their bits do
                most = max(most, some[k])
            for k in range(len(block) if most >= enough else 0):
                key = first + begin + k
                if block[k] * scale >= mass and not within(keys[:n], key):
                    keys[count], values[count] = key, block[k] * scale
                    count += 1
    other_key = first + _LOW - (other & _LOW) if other > _NONE else np.int64(-1)
    return count, first + _LOW - (heaviest & _LOW), other_key


@nb.njit(cache=True, nogil=True)
def within(keys, key):  # type: ignore[no-untyped-def]
    """Return whether a key is among some."""
    for other in keys:  # noqa: SIM110
        if other == key:
            return True
    return False


@nb.njit(cache=True, nogil=True)
def add_rows(rows, scales, sums, part):  # type: ignore[no-untyped-def]
    """Add the sum of all rows, each times its scale, to `sums`; a chunk of all rows after the other.

    rows float32[n_rows, n]; scales float32[n_rows]; sums float64[n or more]; part float32[CHUNK] is scratch.
    """
    n = rows.shape[1]
    for begin in range(0, n, CHUNK):
        stop = min(begin + CHUNK, n)
        part[:] = 0
        for row in range(len(rows)):
            chunk, scale = rows[row, begin:stop], scales[row]
            for k in range(len(chunk)):
                part[k] += chunk[k] * scale
        for k in range(stop - begin):
            sums[begin + k] += part[k]


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
