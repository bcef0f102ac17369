"""Theory of eviction while decoding: how long a row lives where rows go at random, and what is left of a prompt.

A cache of the prefill's rows, in each of M slots. Every step brings one row; after every `interval`-th step each slot
is cut back to its budget. Under the policy `random` a cut of m rows to B keeps each with probability B/m, whatever its
age and whatever was cut before: the cuts are independent, and a chance of survival is a product over them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Curve = NDArray[np.float64]


def log_survival(n_prefill: int, n_steps: int, budget: int, interval: int = 1) -> Curve:
    """Return the logarithm of the chance that a row of the prefill is still in a slot after each step.

    Parameters
    ----------
    n_prefill, n_steps : int
        Rows of the prefill, all there before step 1; steps.
    budget, interval : int
        Rows left by a cut, at least 1; steps from cut to cut.

    Returns
    -------
    float64[n_steps + 1]
        Entry t: after step t. The chance that the row of step s is there after step t >= s is
        ``exp(entry[t] - entry[s - 1])``.

    Notes
    -----
    Exact. A cut keeps each of its m rows with probability min(1, B/m). The first that finds m > B finds all rows that
    ever came, every later one m = B + interval.
    """
    steps = np.arange(n_steps + 1)
    size = np.full(n_steps + 1, budget + interval)
    cut = (steps % interval == 0) & (steps > 0)
    full = cut & (n_prefill + steps > budget)
    if full.any():
        first = int(np.argmax(full))
        size[first] = n_prefill + first
    chance: Curve = np.where(full, np.log(budget / size), 0.0)
    return np.cumsum(chance)


def gone_from_all(log_chance: ArrayLike, slots: int) -> Curve:
    """Return (1 - q)**slots, the chance to be gone from all of some independent slots; q = exp(log_chance) in each.

    The Global Eviction Ratio of rows of one age (arXiv 2603.01426), where slots are cut independently.
    """
    return np.asarray((0.0 - np.expm1(np.asarray(log_chance, dtype=float))) ** slots)


def survival_by_age(log_chance: Curve, ages: ArrayLike) -> Curve:
    """Return which share of the rows that came while decoding is in a slot `age` steps after its own step.

    Parameters
    ----------
    log_chance : float64[n_steps + 1]
        Of `log_survival`.
    ages : int[n]
        In 0..n_steps - 1; 0: after the step with which the row came.

    Returns
    -------
    float64[n]
        The mean over all steps s with s + age <= n_steps, exact.
    """
    return np.array(
        [
            np.exp(log_chance[1 + age :] - log_chance[: len(log_chance) - 1 - age]).mean()
            for age in np.atleast_1d(ages)
        ]
    )


def steady_survival(budget: int, ages: ArrayLike, interval: int = 1) -> Curve:
    """Return the same in a cache that has long been full: rho**(age + 1), rho = B/(B + 1), where every step cuts.

    Notes
    -----
    With an interval I every cut keeps rho = B/(B + I). A row that came as the j-th since the last cut, j = 1..I, has
    been through floor((j + age)/I) cuts. With age = q I + r that is q + 1 for the r + 1 values of j from I - r on, and
    q for the other I - r - 1; the mean over j is ``rho**q ((I - r - 1) + (r + 1) rho)/I``, near exp(-age/B).
    """
    through, left = np.divmod(np.asarray(ages), interval)
    rho = budget / (budget + interval)
    return np.asarray(rho**through * ((interval - left - 1) + (left + 1) * rho) / interval)


def steady_ger(budget: int, slots: int, ages: ArrayLike, interval: int = 1) -> Curve:
    """Return the chance that a row of an age is gone from all of M slots, in caches that have long been full.

    (1 - rho**(age + 1))**M where every step cuts. All slots are cut at the same steps, so the mean over the place j in
    the interval, of `steady_survival`, is taken of the chances to be gone from all.
    """
    through, left = np.divmod(np.asarray(ages), interval)
    rho = budget / (budget + interval)
    fewer, more = (1 - rho**through) ** slots, (1 - rho ** (through + 1)) ** slots
    return np.asarray(((interval - left - 1) * fewer + (left + 1) * more) / interval)


def expected_held(log_chance: Curve, n_prefill: int, slots: int, step: int) -> float:
    """Return how many tokens at least one of M independent slots holds after a step, exact.

    The sum of 1 - (1 - q)**M over the rows of the prefill and those of steps 1..step.
    """
    here = log_chance[step]
    prefill = n_prefill * (1 - gone_from_all(here, slots))
    decoded = 1 - gone_from_all(here - log_chance[:step], slots)
    return float(prefill + decoded.sum())


def steady_held(budget: int, slots: int) -> float:
    """Return the same in a cache that has long been full, where every step cuts: close to B (1 + 1/2 + ... + 1/M).

    Notes
    -----
    The sum over ages of 1 - (1 - rho**(age + 1))**M. With x = rho**(age + 1) and dx/x = ln rho it becomes
    B times the integral over x in 0..1 of (1 - (1 - x)**M)/x, which is the M-th harmonic number. (With M = 1 it is
    B, exactly.) M slots of one budget remember a few times the budget, not M times: 256 slots 6.1 times.
    """
    return float(budget * np.sum(1.0 / np.arange(1, slots + 1)))


def critical_budget(n_prefill: int, n_steps: int, slots: int, interval: int = 1, share: float = 0.5) -> int:
    """Return the least budget with which at most a share of a prompt is gone from all M slots after n_steps steps.

    Parameters
    ----------
    n_prefill, n_steps, slots, interval : int
        Rows of the prompt, steps, M, steps from cut to cut.
    share : float
        In (0, 1); half by default.

    Returns
    -------
    int
        In 1..n_prefill + n_steps, which keeps everything.

    Notes
    -----
    Solves (1 - q)**M = share for the chance q(B) of `log_survival`, which grows with B, by bisection. Where
    every step cuts and n_prefill > B, q is close to (B/n_prefill) exp(-n_steps/B): B has to grow with the length
    of what is generated, by a logarithm of M less fast.
    """
    low, high = 0, n_prefill + n_steps
    while high - low > 1:
        middle = (low + high) // 2
        last = log_survival(n_prefill, n_steps, middle, interval)[-1]
        low, high = (low, middle) if gone_from_all(last, slots) <= share else (middle, high)
    return high


def tree_by_age(budget: int, ages: ArrayLike, n_sink: int = 0, window: int = 0) -> Curve:
    """Return the share of rows that TreeKV still has in a slot `age` steps after their own, in a long full cache.

    Parameters
    ----------
    budget, n_sink, window : int
        Rows left by a cut, one a step; sinks and latest rows that are left alone, fewer than budget - 1 together.
    ages : int[n]
        Steps since the row's own, from 0 on.

    Returns
    -------
    float64[n]
        1 for the latest rows; then through 2**-k at the ages ``window + C (k - 1 + 2**-k)``, k = 0, 1, ..., straight
        between them, with C = budget - n_sink - window. Half of what is left goes with every C steps.

    Raises
    ------
    ValueError
        If sinks and window leave fewer than two rows for the tree.

    Notes
    -----
    Our derivation. The pair of TreeKV (arXiv 2501.04987) moves on by one survivor a step, so it has passed all C places
    after C steps and stands at the place 2 t of the row's coordinate at time t of a passage (both in units of C): rows
    that were there at its start have places in 0..1, one that comes at time f has 1 + f. It is met for the first time
    at age (1 - f)/2, where it is halved, then stands at (1 + f)/2, and for the k-th time at
    k - 1 - f + (1 + f)/2**k. One of two neighbours goes each time, whatever they are given: the mean over f, uniform,
    does not depend on attention at all. Rows are discrete, which takes less than .1/C; the age counts from the middle
    of its step.
    """
    rows = budget - n_sink - window
    if rows < 2:
        raise ValueError(
            f"{n_sink} sinks and {window} latest rows leave {rows} of a budget of {budget} for the tree; it needs 2"
        )
    passages = np.arange(64)
    halved = passages - 1 + 2.0**-passages
    since = np.maximum(0.0, np.asarray(ages) - window + 0.5) / rows
    return np.asarray(np.interp(since, halved, 2.0**-passages))


def streaming_gone(
    n_prefill: int, steps: ArrayLike, budget: int, interval: int = 1, n_sink: int = 0
) -> Curve:
    """Return which share of the prefill is gone after each step where sinks and the latest rows are kept, exact.

    The same rows in every slot: gone from one is gone from all. After a cut at step t the rows n_sink..n_prefill + t -
    (B - n_sink) - 1 are gone.
    """
    cut = np.asarray(steps) // interval * interval
    gone = np.clip(n_prefill + cut - budget, 0, max(0, n_prefill - n_sink))
    return np.where(cut > 0, gone, 0) / n_prefill


def streaming_by_age(
    n_steps: int, ages: ArrayLike, budget: int, interval: int = 1, n_sink: int = 0, n_prefill: int = 0
) -> Curve:
    """Return which share of the rows that came while decoding is in a slot `age` steps after its own step, exact.

    Sinks and the latest rows are kept: one, as long as fewer than B - n_sink rows came after it up to the last cut.
    The mean over all steps s with s + age <= n_steps.
    """
    found = []
    for age in np.atleast_1d(ages):
        own = np.arange(1, n_steps - age + 1)
        cut = (own + age) // interval * interval
        sink = n_prefill + own - 1 < n_sink
        found.append(np.mean(sink | (cut - own < budget - n_sink)))
    return np.array(found)
