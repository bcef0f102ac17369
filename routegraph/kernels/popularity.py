"""Attention while decoding: how much every row is looked at, as a pure function of the key, and sums over it.

Row i arrives at time i, the time at which query i looks. The weight of a row of height h is exp(h): a popularity,
which is kept for a while and then drawn anew, plus `decay` times its position, so that a later row weighs more, plus a
boost by age. Of the heights of two rows only the difference matters, and boosts are a step function of age: a row's
height changes only where a popularity is drawn anew and where its age comes to a step. What `k` counts are the draws:
the k-th popularity of a row is the number at (row, 3 k) and (row, 3 k + 1) of its slot's stream, the time that it is
kept is that at (row, 3 k + 2); the part that lasts is the number at (row, `LASTING`), beyond any draw.

A model of attention is the numbers (spread, persistence, lasting, of a prompt's row the same three, apart, agreement,
decay), of which `agreement` is the share of the variance of a popularity that is the token's own, the same in all
slots, and `lasting` the row's, both for good; and the boosts: int64 `ages` rise, and from ``ages[j]`` on a row has
``boosts[j]``, before the first none. Rows below `first` are the prompt's. Where `apart` is not 0, they have boosts only
while the prompt is read, up to time `first`.

The rows that are due at a time form a linked list: ``due[time]`` is the first, ``due_next[row]`` the next, -1: none.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from routegraph.kernels.rng import uniform

#: What a row was given is ``offset + weight * passed``, a difference of numbers of the size weight * passed, where it
#: is itself about 1: beyond this size the base of the weights is moved and the sum begun anew, before digits are lost.
LARGEST = 1e5
#: Places of the numbers that all rows of a slot share.
TOTAL, PASSED, BASE = 0, 1, 2
#: Places of a model's numbers; of the reply's rows and of the prompt's spread, persistence and lasting in this order.
REPLY, PROMPT, APART, AGREEMENT, DECAY = 0, 3, 6, 7, 8
#: The draw of the popularity that a row has for good: the last two below the bound of `rng.uniform`.
LASTING = 2**32 - 2


@nb.njit(inline="always", cache=True)
def normal(numbers, position, draw):  # type: ignore[no-untyped-def]
    """Return a standard normal number from the uniform ones `draw` and `draw` + 1 (Box and Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(numbers, position, draw)))
    return radius * math.cos(2.0 * math.pi * uniform(numbers, position, draw + 1))


@nb.njit(inline="always", cache=True)
def height_of(numbers, tokens, row, k, first, model):  # type: ignore[no-untyped-def]
    """Return the height of a row with its k-th popularity, without its boost.

    `tokens` is the stream that all slots share; its part of the popularity never changes, nor does the one that lasts.
    """
    place = PROMPT if row < first else REPLY
    spread, lasting, agreement, decay = model[place], model[place + 2], model[AGREEMENT], model[DECAY]
    fading = 1.0 - agreement - lasting
    own = math.sqrt(fading) * normal(numbers, row, 3 * k) if fading > 0.0 else 0.0
    shared = math.sqrt(agreement) * normal(tokens, row, 0) if agreement > 0.0 else 0.0
    if lasting > 0.0:
        own += math.sqrt(lasting) * normal(numbers, row, LASTING)
    return spread * (own + shared) + decay * row


@nb.njit(inline="always", cache=True)
def boosted(row, time, first, model):  # type: ignore[no-untyped-def]
    """Return whether a row has a boost at a time."""
    return model[APART] == 0.0 or row >= first or time < first


@nb.njit(inline="always", cache=True)
def boost_at(row, time, first, model, ages, boosts):  # type: ignore[no-untyped-def]
    """Return the boost of a row at a time."""
    found, age = 0.0, time - row
    if not boosted(row, time, first, model):
        return found
    for j in range(len(ages)):
        if ages[j] > age:
            break
        found = boosts[j]
    return found


@nb.njit(cache=True, nogil=True)
def kept_for(numbers, row, k, first, model, most):  # type: ignore[no-untyped-def]
    """Return for how many steps the k-th popularity is kept, at least 1, cut at `most`.

    Geometric: longer than s steps with probability persistence**s.
    """
    persistence = model[(PROMPT if row < first else REPLY) + 1]
    if persistence >= 1.0:
        return most
    if persistence <= 0.0:
        return np.int64(1)
    steps = math.log(1.0 - uniform(numbers, row, 3 * k + 2)) / math.log(persistence)
    return most if steps >= most - 1 else np.int64(steps) + 1


@nb.njit(cache=True, nogil=True)
def put_due(due, due_next, row, time):  # type: ignore[no-untyped-def]
    """Note that a row is due at a time; times beyond the last are of no interest."""
    if time < len(due):
        due_next[row] = due[time]
        due[time] = row


@nb.njit(cache=True, nogil=True)
def no_rows_yet(n_rows):  # type: ignore[no-untyped-def]
    """Return the last arguments of `arrive`, from `drawn` on, before the first row arrives."""
    return (
        np.empty(n_rows),
        np.empty(n_rows),
        np.zeros(n_rows, np.int64),
        np.full(n_rows, -1, np.int64),
        np.full(n_rows, -1, np.int64),
        np.empty(n_rows),
        np.empty(n_rows),
        np.zeros(3),
    )


@nb.njit(cache=True, nogil=True)
def arrive(  # type: ignore[no-untyped-def]
    numbers,
    tokens,
    time,
    first,
    death,
    never,
    model,
    ages,
    boosts,
    drawn,
    height,
    renewals,
    due,
    due_next,
    weight,
    offset,
    shared,
):
    """Let the row of this time arrive, draw the popularities that are due, and let the query look.

    Parameters
    ----------
    numbers, tokens : uint64
        Streams of the slot, and of all slots.
    time, first : int
        Number of the row that arrives; rows of the prompt.
    death, never : int[n_rows], int
        A row is alive where death is `never`.
    model, ages, boosts : tuple of float, int64[n_steps], float64[n_steps]
        The model of attention.
    drawn, height, renewals, due, due_next : float64[n_rows] twice, int64[n_rows] thrice
        Heights without and with the boost; how often each was drawn anew; who is due when.
    weight, offset, shared : float64[n_rows], float64[n_rows], float64[3]
        Weights; the attention that a row was given so far is ``offset + weight * shared[PASSED]``; the sum of weights,
        the sum over queries of one over it, and the base of the weights.
    """
    decay, most = model[DECAY], len(due)
    drawn[time] = height_of(numbers, tokens, time, 0, first, model)
    height[time] = drawn[time] + boost_at(time, time, first, model, ages, boosts)
    if math.exp(height[time] - shared[BASE]) * shared[PASSED] > LARGEST:
        rebase(time, death, never, height, weight, offset, shared, decay * time)
    weight[time] = math.exp(height[time] - shared[BASE])
    offset[time] = -weight[time] * shared[PASSED]
    shared[TOTAL] += weight[time]
    if time == first and model[APART] != 0.0 and len(ages) > 0:  # the reply begins
        for row in range(first):
            if death[row] == never:
                change_height(time, death, never, height, weight, offset, shared, row, drawn[row], decay)
    for j in range(len(ages)):
        row = time - ages[j]
        if 0 <= row < time and death[row] == never and boosted(row, time, first, model):
            change_height(
                time, death, never, height, weight, offset, shared, row, drawn[row] + boosts[j], decay
            )
    row = due[time]
    while row >= 0:
        following = due_next[row]
        if death[row] == never:
            renewals[row] += 1
            drawn[row] = height_of(numbers, tokens, row, renewals[row], first, model)
            high = drawn[row] + boost_at(row, time, first, model, ages, boosts)
            change_height(time, death, never, height, weight, offset, shared, row, high, decay)
            put_due(due, due_next, row, time + kept_for(numbers, row, renewals[row], first, model, most))
        row = following
    put_due(due, due_next, time, time + kept_for(numbers, time, 0, first, model, most))
    shared[PASSED] += 1.0 / shared[TOTAL]


@nb.njit(inline="always", cache=True)
def change_height(time, death, never, height, weight, offset, shared, row, high, decay):  # type: ignore[no-untyped-def]
    """Give a row another height; what it was given so far stays."""
    after = math.exp(high - shared[BASE])
    if after * shared[PASSED] > LARGEST:
        rebase(time + 1, death, never, height, weight, offset, shared, decay * time)
        after = math.exp(high - shared[BASE])
    height[row], before = high, weight[row]
    weight[row] = after
    offset[row] += (before - after) * shared[PASSED]
    change_total(time, death, never, weight, shared, before, after)


@nb.njit(cache=True, nogil=True)
def change_total(time, death, never, weight, shared, before, after):  # type: ignore[no-untyped-def]
    """Replace one weight in the sum; where little is left of the sum, which rounding would spoil, add it up again."""
    left = shared[TOTAL] - before
    if left > 1e-3 * shared[TOTAL]:
        shared[TOTAL] = left + after
        return
    shared[TOTAL] = 0.0
    for row in range(time + 1):
        if death[row] == never:
            shared[TOTAL] += weight[row]


@nb.njit(cache=True, nogil=True)
def rebase(count, death, never, height, weight, offset, shared, base):  # type: ignore[no-untyped-def]
    """Move the base of the weights of the first `count` rows, and begin the sum over queries anew."""
    shared[BASE] = base
    shared[TOTAL] = 0.0
    for row in range(count):
        if death[row] == never:
            offset[row] += weight[row] * shared[PASSED]
            weight[row] = math.exp(height[row] - base)
            shared[TOTAL] += weight[row]
    shared[PASSED] = 0.0
