"""`fit_critical`: critical ratios and exponents of curves, with intervals, evidence and warnings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.critical import collapse, estimators
from routegraph.critical.cliff import fit_cliff
from routegraph.critical.estimators import Estimate
from routegraph.critical.result import CriticalFit, number, ready
from routegraph.stats import bootstrap
from routegraph.stats.bootstrap import Resampled
from routegraph.stats.intervals import NOWHERE, Interval

__all__ = ["METHODS", "SCALES", "CriticalFit", "fit_counts", "fit_critical"]

METHODS = ("half", "peak", "binder", "collapse")
SCALES = ("n", "L", "M", "L/ln n")


def fit_critical(
    ratios: ArrayLike,
    samples: ArrayLike | None = None,
    sizes: ArrayLike | None = None,
    *,
    method: str = "half",
    scale: str = "n",
    trials: ArrayLike | None = None,
    seed: int = 0,
    target: float = 0.5,
    zeta_over_nu: float | None = None,
    correction: bool = False,
    resamples: int = 400,
    observable: str = "order parameter",
) -> CriticalFit:
    """Find a critical ratio and say how sure it is, and whether it is a transition at all.

    Parameters
    ----------
    ratios : float[A]
        Increasing.
    samples : float[S, R, A] or float[R, A]
        The order parameter of R replicates at S sizes; with `trials`, counts int[A].
    sizes : float[S], optional
        Increasing; needed for more than one size.
    method : {"half", "peak", "binder", "collapse"}
        Half point; susceptibility peak; crossings of the Binder cumulant (second moment beside it); collapse.
    scale : {"n", "L", "M", "L/ln n"}
        What `sizes` are: the scaling variable.
    trials : int[A] or int[A, 2], optional
        Measured curves: how many were asked at each ratio, `samples` being how many of them hallucinated; or
        pairs (hallucinated, asked), without `samples`: see `fit_counts`, which does it.
    seed, resamples : int
        Bootstrap over replicates.
    target : float
        Value at the half point.
    zeta_over_nu : float, optional
        Exponent of the value at alpha_c where it is known (0 for a probability of crossing). A collapse fits it by
        default; peaks yield 1/nu only where it is known.
    correction : bool
        Collapse with a correction to scaling 1 + c L_0 / L.
    observable : str
        Name, for the words.

    Returns
    -------
    CriticalFit

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, all curves are equal, or the method needs more sizes.

    Examples
    --------
    >>> import numpy as np
    >>> ratios, places = np.linspace(0, 1, 101), np.random.default_rng(0).normal(0.6, 0.02, 50)
    >>> fit_critical(ratios, 1 / (1 + np.exp((ratios - places[:, None]) / 0.05))).verdict
    'undecided'
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose from: {', '.join(METHODS)}")
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; choose from: {', '.join(SCALES)}")
    grid = _grid(ratios)
    if trials is not None:
        return fit_counts(grid, *_counted(grid, samples, trials), seed=seed, observable=observable)
    data = _resampled(grid, samples, sizes, resamples, seed)
    needed = 2 if method in ("binder", "collapse") else 1
    if len(data.sizes) < needed:
        raise ValueError(f"method {method!r} needs at least {needed} sizes, got {len(data.sizes)}")

    def estimate(part: Resampled, refits: int = 200) -> Estimate:
        if method == "half":
            return estimators.by_half_point(part, target)
        if method == "peak":
            return estimators.by_peak(part, zeta_over_nu)
        if method == "binder":
            return estimators.by_binder(part)
        return collapse.by_collapse(part, zeta_over_nu, correction, refits=refits)

    found = estimate(data)
    verdict, evidence, cautions = estimators.verdict(data)
    dropped = [_row(data, 0, found)] + [
        _row(data, first, estimate(data.from_size(first), 60))
        for first in range(1, len(data.sizes) - max(needed, 1) + 1)
    ]
    warnings = [*found.warnings, *cautions]
    if len(data.sizes) < 3:
        warnings.append(
            f"only {len(data.sizes)} size{'s' * (len(data.sizes) != 1)}: no limit in size, no verdict (three or "
            "more are needed)"
        )
    alpha_c = bootstrap.interval(found.alpha_c)
    if alpha_c.high - alpha_c.low > (width := _width(data)):
        warnings.append(
            f"the interval of the critical ratio is wider than the change itself ({width:.3g}): more replicates"
        )
    margin = 0.02 * float(np.ptp(grid))
    if not grid[0] + margin <= alpha_c.value <= grid[-1] - margin and not np.isnan(alpha_c.value):
        warnings.append(
            f"the critical ratio {alpha_c.value:.4g} lies at the edge of the grid: widen the ratios"
        )
    if method in ("binder", "collapse") and verdict == "crossover":
        warnings.append("nothing sharpens with size: exponents of a crossover describe no transition")
    sharpens = bootstrap.interval(found.inverse_nu).low > 0.1 if found.inverse_nu is not None else False
    if method == "collapse" and verdict == "undecided" and len(data.sizes) >= 3:
        settled = grid[0] + margin < alpha_c.low and alpha_c.high < grid[-1] - margin
        if sharpens and settled and (found.quality or 0) < 3:
            verdict = "transition"
            evidence.append(
                f"all sizes collapse (S = {found.quality:.2f}) about a ratio inside the grid, 1/nu above 0"
            )
    inverse_nu, nu = _exponent(found.inverse_nu), _exponent(found.inverse_nu, inverse=True)
    zeta_nu = _exponent(found.zeta_over_nu)
    zeta = None
    if zeta_over_nu is not None:
        found.details["given_zeta_over_nu"] = zeta_over_nu
    if found.zeta_over_nu is not None and found.inverse_nu is not None:
        zeta = bootstrap.interval(found.zeta_over_nu / found.inverse_nu)
    return CriticalFit(
        alpha_c=number(alpha_c.value),
        ci=_ends(alpha_c),
        method=method,
        verdict=verdict,
        nu=_centre(nu),
        nu_ci=_ends(nu),
        zeta=_centre(zeta),
        zeta_ci=_ends(zeta),
        inverse_nu=_centre(inverse_nu),
        inverse_nu_ci=_ends(inverse_nu),
        zeta_over_nu=_centre(zeta_nu),
        zeta_over_nu_ci=_ends(zeta_nu),
        quality=found.quality,
        scale=scale,
        observable=observable,
        evidence=evidence,
        warnings=warnings,
        table=ready(found.table),
        dropped=ready(dropped),
        details=ready(found.details),
        sizes=data.sizes.tolist(),
        ratios=grid.tolist(),
        mean=data.mean[0].tolist(),
        stderr=data.stderr.tolist(),
        replicates=data.replicates,
        resamples=resamples,
        seed=seed,
    )


def _grid(ratios: ArrayLike) -> NDArray[np.float64]:
    """Return ratios as an array; ValueError unless at least three that increase."""
    grid = np.asarray(ratios, dtype=float)
    if grid.ndim != 1 or len(grid) < 3 or not np.all(np.diff(grid) > 0):
        raise ValueError("ratios must be at least 3 increasing numbers")
    return grid


def _counted(
    grid: NDArray[np.float64], samples: ArrayLike | None, trials: ArrayLike
) -> tuple[ArrayLike, ArrayLike]:
    """Return counts and trials, given apart or as pairs."""
    asked = np.asarray(trials, dtype=float)
    if asked.ndim == 2 and asked.shape == (len(grid), 2):
        return asked[:, 0], asked[:, 1]
    if samples is None:
        raise ValueError("trials must be pairs (hallucinated, asked), or samples the counts")
    return samples, asked


def _resampled(
    grid: NDArray[np.float64], samples: ArrayLike | None, sizes: ArrayLike | None, resamples: int, seed: int
) -> Resampled:
    """Check shapes and values, and resample."""
    values = np.asarray(samples, dtype=float) if samples is not None else np.empty(0)
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] != len(grid):
        raise ValueError(f"samples must be [S, R, A] with A = {len(grid)} ratios, got {list(values.shape)}")
    if not np.isfinite(values).all():
        raise ValueError("samples must be finite, got NaN or infinity")
    size = np.ones(1) if sizes is None and len(values) == 1 else np.asarray(sizes, dtype=float).reshape(-1)
    if len(size) != len(values) or not np.isfinite(size).all() or (size <= 0).any():
        raise ValueError(f"sizes must be {len(values)} positive numbers, got {size.tolist()}")
    if (np.diff(size) <= 0).any():
        raise ValueError(f"sizes must increase, got {size.tolist()}")
    if values.shape[1] < 2:
        raise ValueError(f"at least 2 replicates are needed, got {values.shape[1]}")
    if np.ptp(values.mean(axis=1)) == 0:
        raise ValueError("all curves are equal and flat: there is nothing to fit")
    return bootstrap.resample(grid, values, size, resamples, seed)


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
        How many, of how many asked at each ratio; taken as independent from ratio to ratio.
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
    grid = _grid(ratios)
    counted = np.asarray(counts, dtype=float).reshape(-1)
    asked = np.broadcast_to(np.asarray(trials, dtype=float), counted.shape)
    found = fit_cliff(grid, counted, asked, seed=seed)
    rate = counted / asked
    spread = np.sqrt((counted + 1) * (asked - counted + 1) / ((asked + 2) ** 2 * (asked + 3)))
    return CriticalFit(
        alpha_c=found.alpha_c.value,
        ci=_ends(found.alpha_c),
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
            }
        ),
        ratios=grid.tolist(),
        mean=[rate.tolist()],
        stderr=[spread.tolist()],
        seed=seed,
    )


def _row(data: Resampled, first: int, found: Estimate) -> dict[str, Any]:
    return {
        "smallest_size": float(data.sizes[first]),
        "sizes": len(data.sizes) - first,
        "alpha_c": bootstrap.interval(found.alpha_c),
        "inverse_nu": _exponent(found.inverse_nu) or NOWHERE,
        "quality": found.quality,
    }


def _exponent(values: NDArray[np.float64] | None, inverse: bool = False) -> Interval | None:
    if values is None:
        return None
    if not inverse:
        return bootstrap.interval(values)
    found = bootstrap.interval(values)
    if not found.low > 0:  # compatible with no sharpening: nu is unbounded
        low = 1 / found.high if found.high > 0 else np.nan
        return Interval(1 / found.value if found.value > 0 else np.nan, low, np.nan)
    return Interval(1 / found.value, 1 / found.high, 1 / found.low)


def _width(data: Resampled) -> float:
    """Return the ratios over which the largest size makes the middle half of its change; inf if unknown."""
    mean = data.mean[0, -1]
    level = (mean - mean.min()) / max(float(np.ptp(mean)), 1e-300)
    inside = data.ratios[(level >= 0.25) & (level <= 0.75)]
    step = float(np.diff(data.ratios).min())
    return max(float(np.ptp(inside)) if len(inside) else 0.0, step)


def _centre(found: Interval | None) -> float | None:
    return None if found is None else number(found.value)


def _ends(found: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if found is None else (number(found.low), number(found.high))
