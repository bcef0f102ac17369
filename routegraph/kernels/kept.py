"""What the queries of many variants weigh: the context rows that their variant keeps, and the variant's own rows."""

from __future__ import annotations

import numba as nb
import numpy as np

from routegraph.kernels.heaviest import largest_bits, sortable
from routegraph.kernels.softmax import ANY_ORDER, exponentials


@nb.njit(cache=True, nogil=True)
def weigh_kept(  # type: ignore[no-untyped-def]
    logits, queries, keys, values, head, variant, place, gone, window, read, scales
):
    """Turn the logits of some queries of a KV head into weights, and read each variant's own rows by them.

    Parameters
    ----------
    logits : float32[n_queries, n_context + n_own or more]
        Products of the scaled queries with the context's keys; behind them the memory for those with a variant's own.
        Overwritten by the weights, each row but for a factor, see `scales`; 0 where a row is gone or not seen.
    queries : float32[n_queries, head_dim]
        Scaled.
    keys, values : float32[n_variants, n_heads, n_own, head_dim]
        The variants' own rows.
    head : int
        KV head that the queries read.
    variant, place : int64[n_queries]
        Whose query each is, and its place among the variant's own rows, of which it sees those up to it.
    gone : bool[n_variants, n_heads, n_context]
        Context rows that a variant does not keep.
    window : int
        A query sees so many rows, the one at its own place among them; 0: all.
    read : float32[n_queries, head_dim]
        Overwritten by what is read of the own rows, but for the factor.
    scales : float32[n_queries]
        Overwritten: the factor.
    """
    n_context = gone.shape[2]
    for query in range(len(queries)):
        who, stop, row = variant[query], n_context + place[query] + 1, logits[query]
        hide(row[:n_context], gone[who, head])
        multiply(row[n_context:stop], queries[query], keys[who, head])
        first = max(0, stop - window) if window > 0 else 0
        seen = row[first:stop]
        scales[query] = exponentials(seen, largest(seen))[0]
        row[:first] = 0
        mix(read[query], row[n_context:stop], values[who, head])


@nb.njit(cache=True, nogil=True)
def hide(row, gone):  # type: ignore[no-untyped-def]
    """Set what is gone of a row to minus infinity."""
    for k in range(len(row)):
        row[k] = np.float32(-np.inf) if gone[k] else row[k]


@nb.njit(cache=True, nogil=True)
def largest(row):  # type: ignore[no-untyped-def]
    """Return the largest of a row that is not empty."""
    return np.int32(sortable(largest_bits(row.view(np.int32)))).view(np.float32)


@nb.njit(cache=True, nogil=True, fastmath=ANY_ORDER)
def multiply(products, query, keys):  # type: ignore[no-untyped-def]
    """Overwrite products by those of a query with as many keys, the first ones."""
    for own in range(len(products)):
        total = np.float32(0)
        for k in range(len(query)):
            total += query[k] * keys[own, k]
        products[own] = total


@nb.njit(cache=True, nogil=True, fastmath=ANY_ORDER)
def mix(read, weights, values):  # type: ignore[no-untyped-def]
    """Overwrite what is read by the sum of as many values as there are weights, each times its weight."""
    read[:] = 0
    for own in range(len(weights)):
        for k in range(len(read)):
            read[k] += weights[own] * values[own, k]
