"""`fit_critical`: critical ratios and exponents of curves, with intervals, evidence and warnings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.critical import binder, collapse, estimators
from routegraph.critical.counts import fit_counts, ratio_grid
from routegraph.critical.estimate import Estimate
from routegraph.critical.result import CriticalFit, number, ready
from routegraph.options import check_whole
from routegraph.stats import bootstrap
from routegraph.stats.bootstrap import Resampled
from routegraph.stats.intervals import NOWHERE, Interval

__all__ = ["METHODS", "SCALES", "CriticalFit", "fit_critical"]

METHODS = ("half", "peak", "binder", "collapse")
SCALES = ("n", "L", "M", "L/ln n")
#: So many standard errors from what all sizes give, the result without the smallest ones is told.
DRIFT = 2.0


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
        Half point; susceptibility peak; where the Binder cumulant does not depend on the size; collapse.
    scale : {"n", "L", "M", "L/ln n"}
        What `sizes` are: the scaling variable.
    trials : int[A] or int[A, 2], optional
        Measured curves: how many were asked at each ratio, `samples` being how many of them hallucinated; or
        pairs (hallucinated, asked), without `samples`: see `routegraph.critical.counts.fit_counts`, which does it, and
        `fit_items` beside it, which knows that the same items are asked at every ratio.
    seed, resamples : int
        Bootstrap over replicates; at least 2 resamples, and some hundreds for an interval to rely on.
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
    grid = ratio_grid(ratios)
    check_whole("resamples", resamples, 2)
    for name, value in (("target", target), ("zeta_over_nu", zeta_over_nu)):
        if value is not None and not np.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")
    if trials is not None:
        return fit_counts(grid, *_counted(grid, samples, trials), seed=seed, observable=observable)
    data = _resampled(grid, samples, sizes, resamples, seed)
    if not data.stderr.any():
        data = data.alone()
    needed = 2 if method in ("binder", "collapse") else 1
    if len(data.sizes) < needed:
        raise ValueError(f"method {method!r} needs at least {needed} sizes, got {len(data.sizes)}")

    def estimate(part: Resampled, refits: int = 200) -> Estimate:
        if method == "half":
            return estimators.by_half_point(part, target)
        if method == "peak":
            return estimators.by_peak(part, zeta_over_nu)
        if method == "binder":
            return binder.by_binder(part)
        return collapse.by_collapse(part, zeta_over_nu, correction, refits=refits)

    found = estimate(data)
    verdict, evidence, cautions = estimators.verdict(data)
    parts = [found]
    parts += [estimate(data.from_size(k), 60) for k in range(1, len(data.sizes) - max(needed, 1) + 1)]
    dropped = [_row(data, k, part, found) for k, part in enumerate(parts)]
    warnings = [*found.warnings, *cautions, *estimators.humps(data)]
    if method != "half" and (moved := _drift(dropped)):
        warnings.append(moved)
    if len(data.sizes) < 3:
        warnings.append(
            f"only {len(data.sizes)} size{'s' * (len(data.sizes) != 1)}: no limit in size, no verdict (three or "
            "more are needed)"
        )
    if not data.stderr.any():
        warnings.append("the replicates do not differ: how sure any figure is cannot be told from them")
    alpha_c = found.interval
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
        resamples=len(data.mean) - 1,
        seed=seed,
    )


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


def _row(data: Resampled, first: int, found: Estimate, whole: Estimate) -> dict[str, Any]:
    """Return what comes out without the `first` smallest sizes, and how far that is from what all give."""
    rows = min(len(found.alpha_c), len(whole.alpha_c))  # row by row, the same resamples
    shift = found.alpha_c[:rows] - whole.alpha_c[:rows]
    known = shift[1:][np.isfinite(shift[1:])]
    error = float(known.std(ddof=1)) if len(known) > 1 else np.nan
    return {
        "smallest_size": float(data.sizes[first]),
        "sizes": len(data.sizes) - first,
        "alpha_c": found.interval,
        "inverse_nu": _exponent(found.inverse_nu) or NOWHERE,
        "quality": found.quality,
        "limit": found.details.get("limit", NOWHERE),
        "shift": float(shift[0]),
        "shift_error": error,
    }


def _drift(dropped: list[dict[str, Any]]) -> str:
    """Return what to say where leaving out small sizes moves the critical ratio beyond its error; else nothing."""
    for row in dropped[1:]:
        if row["shift_error"] > 1e-9 and abs(row["shift"]) > DRIFT * row["shift_error"]:
            low, high = row["alpha_c"].low, row["alpha_c"].high
            return (
                f"the critical ratio moves with the sizes: from size {row['smallest_size']:g} on it is "
                f"{row['alpha_c'].value:.4g} [{low:.4g}, {high:.4g}], {row['shift']:+.2g} from what all sizes give "
                f"({abs(row['shift']) / row['shift_error']:.1f} standard errors): the interval does not hold what "
                "small sizes do to it; take larger ones"
            )
    return ""


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
