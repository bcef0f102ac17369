"""Reachability from 64 sources at once: one row of 64 values (lanes) a node, SIMD along the row.

One source is pushed down (`reach.py`: a row of edges a query). Rows of 64 values are pulled instead: every key
takes the best of its readers, so that the running best stays in registers and nothing but the result is written.
That needs the edges by key. What bounds the time is the arithmetic, a minimum and a maximum of 64 lanes an edge, so
readers of one slot go in pairs that are capped together: three operations for two edges instead of four. Within a
layer the keys go by their number of pairs, so that the length of the inner loop is no surprise to the branch predictor
(a third of the time). Rows want to start at cache lines (half the time).
"""

from __future__ import annotations

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

#: Sources a pass carries.
WIDTH = 64


@nb.njit(inline="always", cache=True)
def _key_of(slot, per_head):  # type: ignore[no-untyped-def]
    """Return slot // n_heads, given 1 / n_heads, for slots below 2**50: a fifth of the time of the division."""
    return np.intp((slot + 0.5) * per_head)


@nb.njit(cache=True, nogil=True)
def count_pairs(indptr, slots, n_heads, order, starts):  # type: ignore[no-untyped-def]
    """Count the pairs of readers of each key; a slot with an odd number of readers has one pair of one.

    Parameters
    ----------
    indptr, slots : int64[n_layers * n_tokens + 1], unsigned[n_edges]
        Edges by query; slot = key * n_heads + head.
    n_heads : int
    order : int[n_layers, n_tokens]
        Overwritten: the keys of each layer, those with the fewest pairs first, then by position.
    starts : int64[n_layers * n_tokens + 1]
        Overwritten: the pairs of key order[l, k] are starts[l * n_tokens + k] up to the next entry.
    """
    n_layers, n_tokens = order.shape
    pairs, odd = np.empty(n_tokens, np.int64), np.empty(n_tokens * n_heads, np.bool_)
    per_head, total = 1 / n_heads, 0
    for layer in range(n_layers):
        pairs[:] = 0
        odd[:] = False
        for e in range(indptr[layer * n_tokens], indptr[(layer + 1) * n_tokens]):
            odd[slots[e]] = not odd[slots[e]]
            pairs[_key_of(slots[e], per_head)] += odd[slots[e]]
        fewer = np.zeros(pairs.max() + 2, np.int64)
        for key in range(n_tokens):
            fewer[pairs[key] + 1] += 1
        fewer = np.cumsum(fewer)
        for key in range(n_tokens):
            order[layer, fewer[pairs[key]]] = key
            fewer[pairs[key]] += 1
        for k in range(n_tokens):
            starts[layer * n_tokens + k] = total
            total += pairs[order[layer, k]]
    starts[n_layers * n_tokens] = total


@nb.njit(cache=True, nogil=True)
def fill_pairs(indptr, slots, n_heads, order, starts, queries, heads):  # type: ignore[no-untyped-def]
    """Fill queries[n_pairs, 2] and heads[n_pairs] of the pairs that `count_pairs` has counted.

    A pair of one has the same query twice.
    """
    n_layers, n_tokens = order.shape
    free, last = np.empty(n_tokens, np.int64), np.empty(n_tokens * n_heads, np.int64)
    per_head = 1 / n_heads
    for layer in range(n_layers):
        for k in range(n_tokens):
            free[order[layer, k]] = starts[layer * n_tokens + k]
        last[:] = -1
        for query in range(n_tokens):
            row = layer * n_tokens + query
            for e in range(indptr[row], indptr[row + 1]):
                slot = slots[e]
                pair = last[slot]
                if pair >= 0:
                    queries[pair, 1] = query
                    last[slot] = -1
                else:
                    key = _key_of(slot, per_head)
                    pair = free[key]
                    free[key] += 1
                    last[slot] = pair
                    queries[pair, 0] = query
                    queries[pair, 1] = query
                    heads[pair] = np.intp(slot) - key * n_heads


def raise_row(below, key, base, row, value, queries, heads, caps, start, stop):  # type: ignore[no-untyped-def]
    """Set below[key] to the best of base[row] and of its readers, the pairs start..stop-1, each capped.

    Parameters
    ----------
    below, base, value : unsigned[:, WIDTH]
        Rows of lanes.
    queries, heads : int[n_pairs, 2], int[n_pairs]
        A pair reads value[queries[pair]], capped by caps[heads[pair], key].
    caps : unsigned[n_heads, n_tokens]
        Of the type of the values.
    """
    best = base[row].copy()
    for pair in range(start, stop):
        better = np.maximum(value[queries[pair, 0]], value[queries[pair, 1]])
        best = np.maximum(best, np.minimum(better, caps[heads[pair], key]))
    below[key] = best


@intrinsic
def _raise_row(typingctx, below, key, base, row, value, queries, heads, caps, start, stop):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        arrays = [
            context.make_array(kind)(context, builder, argument)
            if isinstance(kind, types.Array)
            else argument
            for kind, argument in zip(signature.args, arguments, strict=True)
        ]
        below, key, base, row, value, queries, heads, caps, start, stop = arrays
        index, word = ir.IntType(64), ir.IntType(32)
        lane = context.get_data_type(signature.args[0].dtype)
        lanes = ir.VectorType(lane, WIDTH)
        n_tokens = builder.extract_value(caps.shape, 1)

        def row_of(array, number):  # type: ignore[no-untyped-def]
            first = builder.gep(array.data, [builder.mul(number, ir.Constant(index, WIDTH))])
            return builder.bitcast(first, lanes.as_pointer())

        def entry(array, number):  # type: ignore[no-untyped-def]
            return builder.zext(builder.load(builder.gep(array.data, [number])), index)

        best = cgutils.alloca_once(builder, lanes)  # becomes registers
        builder.store(builder.load(row_of(base, row), align=lane.width // 8), best)

        def largest(one, other):  # type: ignore[no-untyped-def]
            return builder.select(builder.icmp_unsigned(">", one, other), one, other)

        with cgutils.for_range_slice(builder, start, stop, ir.Constant(index, 1)) as (pair, _):
            first = builder.shl(pair, ir.Constant(index, 1))
            one, other = (
                builder.load(row_of(value, entry(queries, number)), align=lane.width // 8)
                for number in (first, builder.or_(first, ir.Constant(index, 1)))
            )
            better = largest(one, other)
            place = builder.add(builder.mul(entry(heads, pair), n_tokens), key)
            cap = builder.load(builder.gep(caps.data, [place]))
            spread = builder.insert_element(ir.Constant(lanes, ir.Undefined), cap, ir.Constant(word, 0))
            zeros = ir.Constant(ir.VectorType(word, WIDTH), None)
            spread = builder.shuffle_vector(spread, ir.Constant(lanes, ir.Undefined), zeros)
            capped = builder.select(builder.icmp_unsigned("<", better, spread), better, spread)
            builder.store(largest(capped, builder.load(best)), best)
        builder.store(builder.load(best), row_of(below, key), align=lane.width // 8)
        return context.get_dummy_value()

    return types.void(
        below, types.intp, base, types.intp, value, queries, heads, caps, types.intp, types.intp
    ), codegen


@overload(raise_row)
def _(below, key, base, row, value, queries, heads, caps, start, stop):  # type: ignore[no-untyped-def]
    def compiled(below, key, base, row, value, queries, heads, caps, start, stop):  # type: ignore[no-untyped-def]
        _raise_row(below, key, base, row, value, queries, heads, caps, start, stop)

    return compiled


@nb.njit(cache=True, nogil=True)
def fill_caps(drop, grid, caps):  # type: ignore[no-untyped-def]
    """Fill the first n_context columns of caps[n_heads, n_tokens] with grid[drop], drop itself where grid is empty."""
    n_heads, n_context = drop.shape
    for head in range(n_heads):
        row, levels = caps[head], drop[head]
        if len(grid) > 0:
            for key in range(n_context):
                row[key] = grid[np.uintp(levels[key])]
        else:
            for key in range(n_context):
                row[key] = levels[key]


@nb.njit(cache=True, nogil=True)
def push(rows, readers, below, indptr, slots, caps):  # type: ignore[no-untyped-def]
    """Raise below[key] to rows[i], capped, for every read of query readers[i]; indptr starts with query 0."""
    n_heads = len(caps)
    queries, heads = np.zeros((1, 2), np.uint32), np.zeros(1, np.uint32)
    for i in range(len(readers)):
        queries[:] = i
        for e in range(indptr[readers[i]], indptr[readers[i] + 1]):
            key = np.intp(slots[e]) // n_heads
            heads[0] = np.intp(slots[e]) - key * n_heads
            raise_row(below, key, below, key, rows, queries, heads, caps, np.intp(0), np.intp(1))


@nb.njit(cache=True, nogil=True)
def lanes_pass(value, below, sources, indptr, slots, readers, drop, grid, columns, residual):  # type: ignore[no-untyped-def]
    """Carry rows of values from the top layer to the bottom.

    Parameters
    ----------
    value : unsigned[n_tokens + 1, WIDTH]
        Values of the top layer, a lane a source; overwritten. The last row is zero.
    below : unsigned[n_tokens + 1, WIDTH]
        Scratch; the last row is zero.
    sources : int[...]
        The rows of `value` that are not zero.
    indptr, slots : int64[n_layers * n_tokens + 1], unsigned[n_edges]
        Edges by query.
    readers : tuple
        (order, starts, queries, heads): the edges by key, see `count_pairs` and `fill_pairs`.
    drop : int[n_layers, n_heads, n_context]
        Level at which each slot dies.
    grid : unsigned[max_level + 2]
        Turns `drop` into a value; empty: `drop` is one.
    columns, residual : bool
        As for `reach.layer_pass`.

    Returns
    -------
    unsigned[n_tokens + 1, WIDTH]
        Values of the bottom layer: one of the two arrays.
    """
    order, starts, queries, heads = readers
    n_layers, n_heads, n_context = drop.shape
    n_tokens = len(value) - 1
    caps = np.full((n_heads, n_tokens), ~value.dtype.type(0), value.dtype)
    pulled = caps if columns else caps.copy()
    after = np.arange(
        n_context, n_tokens
    )  # in "decode" only the reads of these queries are cut: they are pushed
    for layer in range(n_layers - 1, -1, -1):
        fill_caps(drop[layer], grid, caps)
        edges = indptr[layer * n_tokens : (layer + 1) * n_tokens + 1]
        if layer == n_layers - 1:  # few rows hold anything: no need to look at every read
            below[:] = 0
            if residual:
                below[sources] = value[sources]
            for source in sources:
                one = value[source : source + 1]
                push(one, np.full(1, source), below, edges, slots, pulled if source < n_context else caps)
            value, below = below, value
            continue
        rows = value[n_context:n_tokens].copy()
        if not columns:
            value[n_context:n_tokens] = 0
        keys, ends = order[layer], starts[layer * n_tokens : (layer + 1) * n_tokens + 1]
        for k in range(len(keys)):
            key = np.intp(keys[k])
            base = key if residual else n_tokens
            raise_row(below, key, value, base, value, queries, heads, pulled, ends[k], ends[k + 1])
        if not columns:
            if residual:
                below[n_context:n_tokens] = np.maximum(below[n_context:n_tokens], rows)
            push(rows, after, below, edges, slots, caps)
        value, below = below, value
    return value
