"""Kernels of eviction while decoding: one slot, row after row; each returns the step at which every row dies.

All take the (key, layer, head) of a slot, layers counted from 1; ``capacity[n_rows]``, the most rows that may be left
once row i has arrived and its query has looked; and ``first``, the rows of the prefill: row i arrives at step
i - first + 1. A row that is never evicted has the step n_rows - first + 1, one beyond the last. The first `protected`
rows never die, the last `window` of those that have arrived do not yet. Attention is that of `kernels.popularity`.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from routegraph.kernels.heap import pop, push, reorder, sift_down
from routegraph.kernels.popularity import (
    APART,
    PASSED,
    arrive,
    boost_at,
    boosted,
    change_total,
    height_of,
    kept_for,
    no_rows_yet,
    put_due,
)
from routegraph.kernels.rng import below, stream


@nb.njit(cache=True, nogil=True)
def random_rows(key, layer, head, capacity, first):  # type: ignore[no-untyped-def]
    """Evict rows drawn uniformly from all that are there."""
    n_rows = len(capacity)
    numbers = stream(key, layer, head)
    death = np.full(n_rows, n_rows - first + 1, np.int32)
    there = np.empty(n_rows, np.int32)
    size = 0
    for time in range(n_rows):
        there[size] = time
        size += 1
        draw = 0
        while size > capacity[time]:
            chosen = below(numbers, time, draw, size)
            draw += 1
            death[there[chosen]] = time - first + 1
            size -= 1
            there[chosen] = there[size]
    return death


@nb.njit(cache=True, nogil=True)
def lowest_now(  # type: ignore[no-untyped-def]
    key, layer, head, capacity, first, protected, window, model, ages, boosts
):
    """Evict the rows that the last query looks at least.

    Notes
    -----
    The order of the rows is that of their heights, which change only where a popularity is drawn anew and where an age
    comes to a step of the boosts: O(log rows) for every arrival, eviction, draw and step.
    """
    n_rows = len(capacity)
    numbers, tokens = stream(key, layer, head), stream(key, 0, 0)
    never = n_rows - first + 1
    death = np.full(n_rows, never, np.int32)
    drawn, height, renewals = np.empty(n_rows), np.empty(n_rows), np.zeros(n_rows, np.int64)
    due, due_next = np.full(n_rows, -1, np.int64), np.full(n_rows, -1, np.int64)
    heap, place = np.empty(n_rows, np.int64), np.full(n_rows, -1, np.int64)
    size, alive = 0, 0
    for time in range(n_rows):
        drawn[time] = height_of(numbers, tokens, time, 0, first, model)
        height[time] = drawn[time] + boost_at(time, time, first, model, ages, boosts)
        if time == first and model[APART] != 0.0 and len(ages) > 0:  # the reply begins
            for row in range(first):
                if death[row] == never:
                    reorder(heap, place, height, size, row, drawn[row])
        for j in range(len(ages)):
            row = time - ages[j]
            if 0 <= row < time and death[row] == never and boosted(row, time, first, model):
                reorder(heap, place, height, size, row, drawn[row] + boosts[j])
        row = due[time]
        while row >= 0:
            following = due_next[row]
            if death[row] == never:
                renewals[row] += 1
                drawn[row] = height_of(numbers, tokens, row, renewals[row], first, model)
                kept = kept_for(numbers, row, renewals[row], first, model, n_rows)
                put_due(due, due_next, row, time + kept)
                high = drawn[row] + boost_at(row, time, first, model, ages, boosts)
                reorder(heap, place, height, size, row, high)
            row = following
        put_due(due, due_next, time, time + kept_for(numbers, time, 0, first, model, n_rows))
        alive += 1
        if time - window >= protected:
            push(heap, place, height, size, time - window)
            size += 1
        while alive > capacity[time]:
            row = pop(heap, place, height, size)
            size -= 1
            alive -= 1
            death[row] = time - first + 1
    return death


@nb.njit(cache=True, nogil=True)
def lowest_sum(  # type: ignore[no-untyped-def]
    key, layer, head, capacity, first, protected, window, model, ages, boosts
):
    """Evict the rows that were given the least attention by all queries together.

    Notes
    -----
    What a row was given is linear in one number that all rows share, the sum over queries of one over the total weight,
    and only grows: a sum that was true at some time bounds the true one from below. So the heap holds sums as they were
    when they were last looked at, and only the top one is brought up to date, until it is on top all the same.
    """
    n_rows = len(capacity)
    numbers, tokens = stream(key, layer, head), stream(key, 0, 0)
    never = n_rows - first + 1
    death = np.full(n_rows, never, np.int32)
    rows = no_rows_yet(n_rows)
    weight, offset, shared = rows[5:]
    heap, place = np.empty(n_rows, np.int64), np.full(n_rows, -1, np.int64)
    worth, looked = np.empty(n_rows), np.empty(n_rows, np.int64)
    size, alive = 0, 0
    for time in range(n_rows):
        arrive(numbers, tokens, time, first, death, never, model, ages, boosts, *rows)
        alive += 1
        row = time - window
        if row >= protected:
            worth[row], looked[row] = offset[row] + weight[row] * shared[PASSED], time
            push(heap, place, worth, size, row)
            size += 1
        while alive > capacity[time]:
            row = heap[0]
            while looked[row] < time:
                worth[row], looked[row] = offset[row] + weight[row] * shared[PASSED], time
                sift_down(heap, place, worth, 0, size)
                row = heap[0]
            pop(heap, place, worth, size)
            size -= 1
            alive -= 1
            death[row] = time - first + 1
            change_total(time, death, never, weight, shared, weight[row], 0.0)
    return death


@nb.njit(cache=True, nogil=True)
def lower_neighbour(  # type: ignore[no-untyped-def]
    key, layer, head, capacity, first, protected, window, model, ages, boosts
):
    """Evict the lower of two neighbours by the mean attention that they were given a query; then go on to the next two.

    The pair moves from the left to the right, one survivor at a time, and starts again where it would reach into the
    window. Of equal ones the left goes.
    """
    n_rows = len(capacity)
    numbers, tokens = stream(key, layer, head), stream(key, 0, 0)
    never = n_rows - first + 1
    death = np.full(n_rows, never, np.int32)
    rows = no_rows_yet(n_rows)
    weight, offset, shared = rows[5:]
    # A ring of the rows that are there, in their order; n_rows stands for both ends of it.
    after, before = np.full(n_rows + 1, n_rows, np.int64), np.full(n_rows + 1, n_rows, np.int64)
    head = protected - 1 if protected > 0 else n_rows
    survivor = head
    alive = 0
    for time in range(n_rows):
        arrive(numbers, tokens, time, first, death, never, model, ages, boosts, *rows)
        last = before[n_rows]
        after[last], before[time], after[time], before[n_rows] = time, last, n_rows, time
        alive += 1
        while alive > capacity[time]:
            left = after[survivor]
            right = after[left]
            if left > time - window or right > time - window:
                left = after[head]
                right = after[left]
            goes, survivor = left, head
            if right <= time - window:
                one = (offset[left] + weight[left] * shared[PASSED]) / (time - left + 1)
                two = (offset[right] + weight[right] * shared[PASSED]) / (time - right + 1)
                goes, survivor = (right, left) if one > two else (left, right)
            after[before[goes]], before[after[goes]] = after[goes], before[goes]
            death[goes] = time - first + 1
            alive -= 1
            change_total(time, death, never, weight, shared, weight[goes], 0.0)
    return death
