"""A heap of rows, the one that goes first on top: the row of least worth, of equal ones the later.

``heap[:size]`` holds rows, ``place[row]`` where in it a row stands, ``worth[row]`` what it is compared by.
"""

from __future__ import annotations

import numba as nb


@nb.njit(inline="always", cache=True)
def goes_first(worth, a, b):  # type: ignore[no-untyped-def]
    """Return whether row a goes before row b."""
    return worth[a] < worth[b] or (worth[a] == worth[b] and a > b)


@nb.njit(cache=True, nogil=True)
def sift_up(heap, place, worth, at):  # type: ignore[no-untyped-def]
    """Move the row at `at` up to where it belongs."""
    row = heap[at]
    while at > 0:
        above = (at - 1) // 2
        if not goes_first(worth, row, heap[above]):
            break
        heap[at] = heap[above]
        place[heap[at]] = at
        at = above
    heap[at] = row
    place[row] = at


@nb.njit(cache=True, nogil=True)
def sift_down(heap, place, worth, at, size):  # type: ignore[no-untyped-def]
    """Move the row at `at` down to where it belongs."""
    row = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and goes_first(worth, heap[child + 1], heap[child]):
            child += 1
        if not goes_first(worth, heap[child], row):
            break
        heap[at] = heap[child]
        place[heap[at]] = at
        at = child
    heap[at] = row
    place[row] = at


@nb.njit(inline="always", cache=True)
def reorder(heap, place, worth, size, row, value):  # type: ignore[no-untyped-def]
    """Give a row another worth, and if it stands in the heap, its place by it; ``place`` is -1 where it does not."""
    before, worth[row] = worth[row], value
    if place[row] >= 0 and value < before:
        sift_up(heap, place, worth, place[row])
    elif place[row] >= 0:
        sift_down(heap, place, worth, place[row], size)


@nb.njit(cache=True, nogil=True)
def push(heap, place, worth, size, row):  # type: ignore[no-untyped-def]
    """Add a row to a heap of `size`."""
    heap[size] = row
    sift_up(heap, place, worth, size)


@nb.njit(cache=True, nogil=True)
def pop(heap, place, worth, size):  # type: ignore[no-untyped-def]
    """Take the top row off a heap of `size` and return it."""
    row = heap[0]
    heap[0] = heap[size - 1]
    if size > 1:
        sift_down(heap, place, worth, 0, size - 1)
    return row
