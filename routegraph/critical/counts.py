"""Measured curves as fits: counts at every ratio, or the items behind them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.critical.cliff import fit_cliff
from routegraph.critical.result import CriticalFit, number, ready


def fit_counts(
    ratios: ArrayLike,
    counts: ArrayLike,
    trials: ArrayLike,
    *,
    seed: int = 0,
    observable: str = "rate",
) -> CriticalFit:
    """Find where a measured rate changes, and say whether that is a cliff or a gradual decline.

    Parameters
    ----------
    ratios : float[A]
        Increasing.
    counts, trials : int[A], int[A] or int
        How many, of how many asked at each ratio; taken as independent from ratio to ratio. Where the same items were
        asked at each, they are not, the interval may be too narrow, and the fit warns: use `fit_items`.
    seed : int
        Of the parametric bootstrap behind the verdict.
    observable : str
        Name, for the words.

    Returns
    -------
    CriticalFit
        Of method "trials": `alpha_c` is the midpoint of a logistic from one level to another, with its
        profile-likelihood interval; `verdict` is "cliff", "gradual", "flat" or "undecided".

    Raises
    ------
    ValueError
        If ratios do not increase, or counts and trials do not fit them.
    """
    grid = ratio_grid(ratios)
    counted = np.asarray(counts, dtype=float).reshape(-1)
    asked = np.broadcast_to(np.asarray(trials, dtype=float), counted.shape)
    return _fit(grid, counted, asked, None, seed, observable)


def fit_items(
    ratios: ArrayLike, outcomes: ArrayLike, *, seed: int = 0, observable: str = "rate"
) -> CriticalFit:
    """Find where a measured rate changes, of items that were all asked at every ratio.

    Parameters
    ----------
    ratios : float[A]
        Increasing.
    outcomes : bool[n_items, A]
        Whether each item counts (is wrong, say) at each ratio.
    seed : int
        Of the resamples of items, and of the parametric bootstrap behind the verdict.
    observable : str
        Name, for the words.

    Returns
    -------
    CriticalFit
        As of `fit_counts`, with the same values; the intervals take in, by resampling the items, that one item's
        outcomes at several ratios hang together.

    Raises
    ------
    ValueError
        If the shapes do not fit, `outcomes` are not of booleans, or all rates are equal.

    Examples
    --------
    >>> import numpy as np
    >>> ratios = np.linspace(0, 0.9, 10)
    >>> lost = ratios >= np.random.default_rng(0).normal(0.5, 0.1, (80, 1))  # each item from a ratio of its own on
    >>> fit_items(ratios, lost).details["items"]
    80
    """
    grid, table = ratio_grid(ratios), np.asarray(outcomes)
    if table.dtype != np.bool_:
        raise ValueError(f"outcomes must be of booleans, got {table.dtype}")
    if table.ndim != 2 or table.shape[1] != len(grid) or not len(table):
        raise ValueError(
            f"outcomes must be [n_items, {len(grid)}] of at least 1 item, got {list(table.shape)}"
        )
    counted = table.sum(axis=0).astype(float)
    return _fit(grid, counted, np.full(len(grid), float(len(table))), table, seed, observable)


def ratio_grid(ratios: ArrayLike) -> NDArray[np.float64]:
    """Return ratios as an array; ValueError unless at least three that increase."""
    grid = np.asarray(ratios, dtype=float)
    if grid.ndim != 1 or len(grid) < 3 or not np.all(np.diff(grid) > 0) or not np.isfinite(grid).all():
        raise ValueError("ratios must be at least 3 increasing numbers")
    return grid


def _fit(
    grid: NDArray[np.float64],
    counted: NDArray[np.float64],
    asked: NDArray[np.float64],
    table: NDArray[np.bool_] | None,
    seed: int,
    observable: str,
) -> CriticalFit:
    found = fit_cliff(grid, counted, asked, seed=seed, outcomes=table)
    spread = np.sqrt((counted + 1) * (asked - counted + 1) / ((asked + 2) ** 2 * (asked + 3)))
    return CriticalFit(
        alpha_c=found.alpha_c.value,
        ci=(number(found.alpha_c.low), number(found.alpha_c.high)),
        method="trials",
        verdict=found.verdict,
        observable=observable,
        evidence=found.evidence,
        warnings=found.warnings,
        details=ready(
            {
                "width": found.width,
                "before": found.before,
                "after": found.after,
                "log_likelihood": found.log_likelihood,
                "aicc": found.aicc,
                "p_gradual": found.p_gradual,
                "counts": counted.tolist(),
                "trials": asked.tolist(),
                "items": None if table is None else len(table),
            }
        ),
        ratios=grid.tolist(),
        mean=[(counted / asked).tolist()],
        stderr=[spread.tolist()],
        seed=seed,
    )
