"""Reachability from 64 sources at once: one row of 64 values (lanes) a node, SIMD along the row.

One source is pushed down (`reach.py`: a row of edges a query). Rows of 64 values are pulled instead: every key
takes the best of its readers, so that the running best stays in registers and nothing but the result is
written. That needs the edges by key; within a layer the keys go by their number of readers, so that the length of
the inner loop is no surprise to the branch predictor (a third of the time). Rows want to start at cache lines
(half the time).
"""

from __future__ import annotations

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

#: Sources a pass carries.
WIDTH = 64


@nb.njit(cache=True, nogil=True)
def sort_by_key(indptr, slots, n_heads, order, starts, queries, heads):  # type: ignore[no-untyped-def]
    """Sort the edges of each layer by key: the transpose of layered CSR.

    Parameters
    ----------
    indptr, slots : int64[n_layers * n_tokens + 1], unsigned[n_edges]
        Edges by query; slot = key * n_heads + head.
    n_heads : int
    order : int[n_layers, n_tokens]
        Overwritten: the keys of each layer, those with the fewest readers first, then by position.
    starts : int64[n_layers * n_tokens + 1]
        Overwritten: readers of key order[l, k] are starts[l * n_tokens + k] up to the next entry.
    queries, heads : int[n_edges]
        Overwritten: the readers, in order of their position.
    """
    n_layers, n_tokens = order.shape
    count, place = np.empty(n_tokens, np.int64), np.empty(n_tokens, np.int64)
    # (slot + .5) / n_heads rounds down to the key for slots below 2**50; an integer division takes 5 times as long.
    per_head = 1 / n_heads
    for layer in range(n_layers):
        rows = indptr[layer * n_tokens : (layer + 1) * n_tokens + 1]
        count[:] = 0
        for e in range(rows[0], rows[n_tokens]):
            count[np.intp((slots[e] + 0.5) * per_head)] += 1
        below = np.zeros(count.max() + 2, np.int64)
        for key in range(n_tokens):
            below[count[key] + 1] += 1
        below = np.cumsum(below)
        for key in range(n_tokens):
            order[layer, below[count[key]]] = key
            below[count[key]] += 1
        edge = rows[0]
        for k in range(n_tokens):
            starts[layer * n_tokens + k] = edge
            place[order[layer, k]] = edge
            edge += count[order[layer, k]]
        for query in range(n_tokens):
            for e in range(rows[query], rows[query + 1]):
                key = np.intp((slots[e] + 0.5) * per_head)  # type: ignore[assignment]
                edge = np.uintp(place[key])
                queries[edge] = query
                heads[edge] = np.intp(slots[e]) - key * n_heads
                place[key] += 1
    starts[n_layers * n_tokens] = indptr[n_layers * n_tokens]


def raise_row(below, key, base, row, value, queries, heads, caps, start, stop):  # type: ignore[no-untyped-def]
    """Set below[key] to the best of base[row] and of its readers start..stop-1, each capped.

    Parameters
    ----------
    below, base, value : unsigned[:, WIDTH]
        Rows of lanes.
    queries, heads : int[n_edges]
        Edge e reads value[queries[e]], capped by caps[heads[e], key].
    caps : uint32[n_heads, n_tokens]
        The cap of one lane as often as it fits into 32 bits (what one instruction spreads over a register).
    """
    best = base[row].copy()
    for e in range(start, stop):
        cap = caps[heads[e], key].astype(value.dtype)
        best = np.maximum(best, np.minimum(value[queries[e]], cap))
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
        words = ir.VectorType(word, WIDTH * lane.width // 32)
        n_tokens = builder.extract_value(caps.shape, 1)

        def row_of(array, number):  # type: ignore[no-untyped-def]
            first = builder.gep(array.data, [builder.mul(number, ir.Constant(index, WIDTH))])
            return builder.bitcast(first, lanes.as_pointer())

        def entry(array, number):  # type: ignore[no-untyped-def]
            return builder.zext(builder.load(builder.gep(array.data, [number])), index)

        best = cgutils.alloca_once(builder, lanes)  # becomes registers
        builder.store(builder.load(row_of(base, row), align=lane.width // 8), best)
        with cgutils.for_range_slice(builder, start, stop, ir.Constant(index, 1)) as (edge, _):
            carried = builder.load(row_of(value, entry(queries, edge)), align=lane.width // 8)
            place = builder.add(builder.mul(entry(heads, edge), n_tokens), key)
            cap = builder.load(builder.gep(caps.data, [place]))
            spread = builder.insert_element(ir.Constant(words, ir.Undefined), cap, ir.Constant(word, 0))
            zeros = ir.Constant(ir.VectorType(word, words.count), None)
            spread = builder.shuffle_vector(spread, ir.Constant(words, ir.Undefined), zeros)
            spread = builder.bitcast(spread, lanes)
            carried = builder.select(builder.icmp_unsigned("<", carried, spread), carried, spread)
            sofar = builder.load(best)
            builder.store(builder.select(builder.icmp_unsigned(">", carried, sofar), carried, sofar), best)
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
def spread_caps(drop, grid, repeat, caps):  # type: ignore[no-untyped-def]
    """Fill caps[n_heads, n_tokens] with grid[drop] (drop itself where grid is empty), repeated in each word.

    Keys that drop[n_heads, n_context] does not have get the largest cap there is.
    """
    n_heads, n_context = drop.shape
    for head in range(n_heads):
        row, levels = caps[head], drop[head]
        if len(grid) > 0:
            for key in range(n_context):
                row[key] = grid[np.uintp(levels[key])] * repeat
        else:
            for key in range(n_context):
                row[key] = np.uint32(levels[key]) * repeat
        row[n_context:] = np.uint32(0xFFFFFFFF)


@nb.njit(cache=True, nogil=True)
def lanes_pass(value, below, order, starts, queries, heads, drop, grid, columns, residual):  # type: ignore[no-untyped-def]
    """Carry rows of values from the top layer to the bottom.

    Parameters
    ----------
    value : unsigned[n_tokens + 1, WIDTH]
        Values of the top layer, a lane a source; overwritten. The last row is zero.
    below : unsigned[n_tokens + 1, WIDTH]
        Scratch; the last row is zero.
    order, starts, queries, heads
        Edges by key, see `sort_by_key`.
    drop : int[n_layers, n_heads, n_context]
        Level at which each slot dies.
    grid : uint32[max_level + 2]
        Turns `drop` into a value; empty: `drop` is one.
    columns, residual : bool
        As for `reach.layer_pass`.

    Returns
    -------
    unsigned[n_tokens + 1, WIDTH]
        Values of the bottom layer: one of the two arrays.
    """
    n_layers, n_heads, n_context = drop.shape
    n_tokens = len(value) - 1
    repeat = np.uint32((0x01010101, 0x00010001, 0, 1)[value.itemsize - 1])
    caps = np.empty((n_heads, n_tokens), np.uint32)
    free = np.full((1 if columns else n_heads, n_tokens), 0xFFFFFFFF, np.uint32)
    for layer in range(n_layers - 1, -1, -1):
        spread_caps(drop[layer], grid, repeat, caps)
        for k in range(n_tokens):
            key = np.intp(order[layer, k])
            base = key if residual else n_tokens
            start, stop = starts[layer * n_tokens + k], starts[layer * n_tokens + k + 1]
            if columns:
                raise_row(below, key, value, base, value, queries, heads, caps, start, stop)
            else:
                cut = stop
                while cut > start and queries[cut - 1] >= n_context:
                    cut -= 1
                raise_row(below, key, value, base, value, queries, heads, free, start, cut)
                raise_row(below, key, below, key, value, queries, heads, caps, cut, stop)
        value, below = below, value
    return value
