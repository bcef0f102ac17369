"""Attention step by step, for policies that are written in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.kernels import popularity
from routegraph.kernels.rng import stream
from routegraph.sim.decoding.slot import Slot


@dataclass(frozen=True)
class Cache:
    """What a slot holds when it is cut: its evictable rows, and what queries gave them.

    Attributes
    ----------
    step : int
        The step, from 1.
    rows : int64[m]
        Numbers of the evictable rows, in their order.
    now, total, recent : float64[m]
        Attention that the last query gave to each, all queries since it came, all since the last cut.
    looks : int64[m]
        Queries since it came, its own included.
    """

    step: int
    rows: NDArray[np.int64]
    now: NDArray[np.float64]
    total: NDArray[np.float64]
    recent: NDArray[np.float64]
    looks: NDArray[np.int64]


Worth = Callable[[Cache], ArrayLike]


def step_by_step(slot: Slot, worth: Worth, *, n_sink: int = 0, window: int = 0) -> NDArray[np.int32]:
    """Cut a slot by a function of what it holds: rows of the least worth go, of equal ones the latest.

    Parameters
    ----------
    slot : Slot
    worth : function of a Cache
        float[m]: how much each of the evictable rows is worth keeping.
    n_sink, window : int
        Rows at the start that are never evicted, and the latest ones, which are not yet.

    Returns
    -------
    int32[n_rows]
        The step at which each row dies, n_steps + 1 if it never does.

    Raises
    ------
    ValueError
        If `worth` returns something of another length, or a NaN.
    """
    n, never = slot.n_rows, slot.never
    numbers, tokens = (
        np.uint64(stream(slot.key, layer, head)) for layer, head in ((slot.layer, slot.head), (0, 0))
    )
    death = np.full(n, never, np.int32)
    state = popularity.no_rows_yet(n)
    weight, offset, shared = state[5:]
    given = np.zeros(n)  # at the last cut
    alive = 0
    for time, most in enumerate(slot.capacity()):
        popularity.arrive(numbers, tokens, time, slot.n_prefill, death, never, *slot.attention.model, *state)
        alive += 1
        if alive <= most:
            continue
        step = time - slot.n_prefill + 1
        there = np.flatnonzero(death[: time + 1] == never)
        total = offset[there] + weight[there] * shared[popularity.PASSED]
        now = weight[there] / shared[popularity.TOTAL]
        may = (there >= n_sink) & (there <= time - window)
        rows = there[may]
        cache = Cache(step, rows, now[may], total[may], (total - given[there])[may], time - rows + 1)
        values = np.asarray(worth(cache), dtype=float)
        if values.shape != rows.shape or np.isnan(values).any():
            raise ValueError(
                f"a worth must be one number for each of {len(rows)} rows, got {values.dtype}{list(values.shape)}"
            )
        for row in rows[np.lexsort((-rows, values))][: alive - most]:
            death[row] = step
            popularity.change_total(time, death, never, weight, shared, weight[row], 0.0)
        given[there] = total
        alive = int(most)
    return death
