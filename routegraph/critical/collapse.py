"""Data collapse: alpha_c, nu and zeta that bring the curves of all sizes onto one master curve.

m(alpha, L) = L**(zeta/nu) f((alpha - alpha_c) L**(1/nu)), optionally times the correction 1 + c / L. The quality
is that of Houdayer and Hartmann (2004); an order parameter has zeta = -beta.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.critical.estimate import Estimate
from routegraph.critical.slopes import peak_of
from routegraph.kernels.collapse import collapse_quality
from routegraph.stats.bootstrap import Array, Resampled, interval, widened

#: Bounds of 1/nu, zeta/nu and of the correction c over the smallest size.
BOUNDS = ((0.02, 6.0), (-3.0, 3.0), (-0.9, 3.0))
#: Quality where parameters are out of bounds, and where too few points overlap: worse than any that is reached.
OUTSIDE, APART = 1e200, 1e199
#: Where no replicate differs from another: the error that the quality is taken in, as a share of the curves' range.
NO_SPREAD = 1e-3


class Collapse:
    """The quality of a collapse as a function of theta = (alpha_c, 1/nu[, zeta/nu][, c])."""

    def __init__(
        self, data: Resampled, zeta_over_nu: float | None, correction: bool, share: tuple[float, float]
    ) -> None:
        self.ratios, self.sizes = data.ratios, data.sizes
        self.fixed, self.correction = zeta_over_nu, correction
        mean = data.mean[0]
        low, high = mean.min(), mean.max()
        level = (mean - low) / max(high - low, 1e-300)
        self.judged = (level >= share[0]) & (level <= share[1])
        usual = data.stderr[self.judged & (data.stderr > 0)]
        # No spread seen is not no error: a twentieth of the usual one at least.
        self.spread = bool(usual.size)
        floor = 0.05 * float(np.median(usual)) if self.spread else NO_SPREAD * float(high - low)
        self.error = np.maximum(data.stderr, floor or 1e-6)
        self.count = int(self.judged.sum())

    def unpack(self, theta: Array) -> tuple[float, float, float, float]:
        """Return (alpha_c, 1/nu, zeta/nu, c)."""
        listed = list(theta)
        zeta = listed.pop(2) if self.fixed is None else self.fixed
        return listed[0], listed[1], zeta, listed[2] if self.correction else 0.0

    def scaled(self, theta: Array, mean: Array, error: Array) -> tuple[Array, Array, Array]:
        """Return scaled abscissae, values and errors, each float64[S, A]."""
        alpha_c, inverse_nu, zeta, c = self.unpack(theta)
        size = (self.sizes / self.sizes[0])[:, None]
        x = (self.ratios - alpha_c) * size**inverse_nu
        factor = size**-zeta / (1 + c / size)
        return x, mean * factor, error * factor

    def quality(self, theta: Array, mean: Array) -> float:
        """Return S, with a penalty outside the bounds or where few points overlap."""
        alpha_c, inverse_nu, zeta, c = self.unpack(theta)
        inside = self.ratios[0] <= alpha_c <= self.ratios[-1]
        within = zip((inverse_nu, zeta, c), BOUNDS, strict=True)
        if not inside or any(not low <= value <= high for value, (low, high) in within):
            return OUTSIDE
        found, points = collapse_quality(*self.scaled(theta, mean, self.error), self.judged)
        return min(float(found), APART) if points >= max(0.3 * self.count, 1) else APART

    def minimise(self, start: Array, mean: Array, tight: bool = False) -> tuple[Array, float]:
        """Return (theta, S) of the nearest minimum (Nelder and Mead 1965)."""
        from scipy.optimize import minimize

        steps = [0.03 * (self.ratios[-1] - self.ratios[0]), 0.1, 0.05, 0.1]
        corners = np.vstack([start, start + np.diag(steps[: len(start)])])
        precise = {"xatol": 1e-5 if tight else 1e-4, "fatol": 1e-5 if tight else 1e-4}
        options: Any = {"initial_simplex": corners, "maxfev": 600, **precise}
        search: Callable[..., Any] = minimize  # the stubs want the number of axes in the type of `start`
        found = search(lambda theta: self.quality(theta, mean), start, method="Nelder-Mead", options=options)
        return np.asarray(found.x), float(found.fun)

    def refits(self, theta: Array, means: Array, rounds: int = 2) -> list[Array]:
        """Return the minimum of each resample: from that of the data, then from those of other resamples.

        The quality has shallow minima beside each other. Where the three parameters hardly tell apart, refits from the
        data's minimum alone stay near it, and intervals come out too narrow.
        """
        found = [self.minimise(theta, mean) for mean in means]
        for shift in range(1, rounds + 1):
            others = [found[b - shift][0] for b in range(len(found))]
            again = [self.minimise(start, mean) for start, mean in zip(others, means, strict=True)]
            found = [min(pair, key=lambda one: one[1]) for pair in zip(found, again, strict=True)]
        return [place for place, _ in found]

    def starts(self, mean: Array, slopes: Array) -> list[Array]:
        """Return starting points: places around the steepest ones, several exponents."""
        where, _, _ = peak_of(self.ratios, slopes)
        level = (mean.min() + mean.max()) / 2
        halves = self.ratios[np.argmin(np.abs(mean - level), axis=1)]
        places = np.unique(np.round([where[-1], halves[-1], (where.mean() + halves.mean()) / 2], 4))
        zetas = [0.0, -0.3] if self.fixed is None else [0.0]
        made = []
        for place, inverse_nu, zeta in itertools.product(places, (0.3, 0.6, 1.0, 1.8), zetas):
            start = [place, inverse_nu] + ([zeta] if self.fixed is None else [])
            made.append(np.array(start + ([0.0] if self.correction else [])))
        return made

    def width(self, theta: Array, best: float, index: int, mean: Array) -> tuple[float, float]:
        """Return where S reaches its minimum + 1 when one parameter moves and the others stay."""
        found = []
        for sign in (-1.0, 1.0):
            step, low = 1e-5, 0.0

            def rises(distance: float, sign: float = sign) -> bool:
                moved = theta.copy()
                moved[index] += sign * distance
                return self.quality(moved, mean) > best + 1

            while step < 10 and not rises(step):
                low, step = step, step * 2
            high = step
            for _ in range(40):
                middle = (low + high) / 2
                low, high = (low, middle) if rises(middle) else (middle, high)
            found.append(float(theta[index] + sign * high))
        return found[0], found[1]


def by_collapse(
    data: Resampled,
    zeta_over_nu: float | None = None,
    correction: bool = False,
    share: tuple[float, float] = (0.02, 0.98),
    refits: int = 200,
) -> Estimate:
    """Collapse the curves; intervals from refitting the resamples.

    Parameters
    ----------
    data : Resampled
        At least two sizes.
    zeta_over_nu : float, optional
        Known exponent (0 for a crossing probability); fitted by default.
    correction : bool
        Fit the factor 1 + c L_0 / L, too, L_0 the smallest size.
    share : (float, float)
        Points count whose value lies between these shares of the whole range.
    refits : int
        Resamples to refit, at most as many as there are.

    Raises
    ------
    ValueError
        If there is one size only.
    """
    if len(data.sizes) < 2:
        raise ValueError("method 'collapse' needs at least 2 sizes, got 1")
    problem = Collapse(data, zeta_over_nu, correction, share)
    mean = data.mean[0]
    tried = [problem.minimise(s, mean) for s in problem.starts(mean, np.abs(mean @ data.smoother[1].T))]
    first = min(tried, key=lambda pair: pair[1])
    theta, best = problem.minimise(first[0], mean, tight=True)
    if best >= APART:
        nowhere = np.full(len(data.mean), np.nan)
        return Estimate(nowhere, warnings=["no collapse: the scaled curves of these sizes overlap nowhere"])
    rows = min(refits, len(data.mean) - 1)
    fits = np.array([theta, *problem.refits(theta, data.mean[1 : rows + 1])])
    columns = np.array([problem.unpack(row) for row in fits])
    told = [widened(column, data.replicates) for column in columns.T]
    names = ["alpha_c", "inverse_nu", *(["zeta_over_nu"] if zeta_over_nu is None else [])]
    names += ["correction"] if correction else []
    agreeing = [float(pair[0][0]) for pair in tried if pair[1] <= max(best + 1, first[1])]
    s_plus_1 = {name: problem.width(theta, best, i, mean) for i, name in enumerate(names)}
    warnings = []
    if not problem.spread:
        warnings.append(
            f"no replicate differs from another: the quality S is in units of an assumed error of {NO_SPREAD:g} of the "
            "curves' range"
        )
    if correction and len(data.sizes) < 4:
        warnings.append(
            f"a correction term on {len(data.sizes)} sizes is hardly determined: over 100 repetitions on 3 sizes the "
            "95 % interval of 1/nu held the truth 88 times; add sizes"
        )
    if best > 3:
        warnings.append(f"poor collapse: quality S = {best:.1f} (about 1 or below is good)")
    if max(agreeing) - min(agreeing) > 0.1 * (data.ratios[-1] - data.ratios[0]):
        warnings.append(f"starts disagree: alpha_c from {min(agreeing):.4g} to {max(agreeing):.4g} at S + 1")
    for value, (low, high), name in zip(columns[0][1:], BOUNDS, ("1/nu", "zeta/nu", "c"), strict=True):
        if not low * 1.02 < value < high * 0.98 and value != 0 and name in ("1/nu",):
            warnings.append(f"{name} = {value:.3g} lies at the end of its range")
    details: dict[str, Any] = {
        "starts": len(tried),
        "s_plus_1": s_plus_1,
        "parameters": names,
        "covariance": np.cov(fits[1:].T).tolist() if rows > 1 else None,
        "correction": interval(told[3]) if correction else None,
    }
    return Estimate(
        told[0],
        told[1],
        told[2] if zeta_over_nu is None else None,
        best,
        warnings=warnings,
        details=details,
    )


def scaled_curves(
    ratios: Array, sizes: Array, mean: Array, theta: tuple[float, float, float]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (x, y) of curves[S, A] scaled by (alpha_c, 1/nu, zeta/nu)."""
    size = sizes[:, None]
    return (ratios - theta[0]) * size ** theta[1], mean * size ** -theta[2]
