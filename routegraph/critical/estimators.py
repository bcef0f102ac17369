"""Half points and susceptibility peaks of resampled curves, and what tells a transition."""

from __future__ import annotations

from typing import Any

import numpy as np

from routegraph.critical.estimate import Estimate
from routegraph.critical.points import crossing, crossings
from routegraph.critical.slopes import scaled_slopes
from routegraph.stats.bootstrap import Array, Resampled, at, interval, line, power_law, variance, widened
from routegraph.stats.intervals import NOWHERE, Interval

#: A curve lies beyond a value where it is so many standard errors away.
CLEAR = 3.0
#: Noise raises slopes where the resamples' exponent is so many standard errors above that of the data.
RAISED = 0.3
#: Exponents tried where a limit in size is extrapolated.
EXPONENTS = np.geomspace(0.3, 4.0, 32)


def by_half_point(data: Resampled, target: float = 0.5) -> Estimate:
    """Return the half point of the largest size; the table shows how it moves.

    Where the curve crosses the target several times, the first crossing is quoted, and the interval goes from the
    first to the last. A crossing counts where the curve is beyond the target by more than `CLEAR` standard errors on
    either side. From three sizes on, `details` has the limit of alpha_c + b size**(-e), with e as the slope grows for
    three sizes, and fitted for more.
    """
    number, first, last = crossings(data.ratios, data.mean, target, CLEAR * data.stderr)
    slope = at(data.ratios, scaled_slopes(data).slopes, first)
    table = [
        {"size": float(size), "half_point": interval(first[:, s]), "slope": interval(slope[:, s])}
        for s, size in enumerate(data.sizes)
    ]
    told = number[:, -1]
    other = float((told[1:] != told[0]).mean()) if len(told) > 1 else 0.0
    several = told[0] > 1 or other > 0.025
    warnings, details = [], {}
    if told[0] == 0:
        warnings.append(f"the curve of the largest size never crosses {target:g}")
    elif several:
        ends = f"from ratio {first[0, -1]:.4g} to {last[0, -1]:.4g}"
        warnings.append(
            f"the curve of the largest size crosses {target:g} {_times(int(told[0]))}, {ends}, and {100 * other:.0f} % "
            "of the resamples another number of times: the first crossing is quoted, and the interval goes from the "
            "first to the last"
        )
    details["crossings"] = {
        "number": int(told[0]),
        "first": interval(first[:, -1]),
        "last": interval(last[:, -1]),
        "resamples_with_another_number": other,
    }
    if len(data.sizes) > 2 and not np.isnan(first[0]).any():
        warnings += _drift_of_half(data, first, slope, details)
    span = None
    if several:
        lowest = interval(first[:, -1])
        span = Interval(lowest.value, lowest.low, interval(last[:, -1]).high)
    return Estimate(first[:, -1], table=table, warnings=warnings, details=details, ends=span)


def _drift_of_half(data: Resampled, half: Array, slope: Array, details: dict[str, Any]) -> list[str]:
    """Put the limit of half points in size into details, and return what is to be said of their drift."""
    growth = power_law(data.sizes, slope)
    limit = NOWHERE
    if interval(growth).low > 0.05:
        limit = interval(_limit_of(data.sizes, half, growth))
    details["limit"] = limit
    moved = interval(half[:, -1] - half[:, -2])
    if not (moved.low > 0 or moved.high < 0):
        return []
    far = "it does not sharpen, and has no limit that could be told from it"
    if not np.isnan(limit.value):
        far = f"extrapolated to large sizes it is {_told(limit, '.4g')}"
    return [
        f"the half point still moves, by {_told(moved, '+.2g')} from size {data.sizes[-2]:g} to {data.sizes[-1]:g}: "
        f"what is quoted is that of the largest size; {far}"
    ]


def _limit_of(sizes: Array, places: Array, growth: Array) -> Array:
    """Return alpha_c of places[B + 1, S] = alpha_c + b size**(-e), float64[B + 1]; e is `growth` with three sizes."""
    if len(sizes) < 4:
        return line(sizes ** -np.maximum(growth, 0.05)[:, None], places)[0]
    weight = 1 / np.maximum(variance(places), 1e-300) if len(places) > 1 else np.ones(len(sizes))
    found, missed = [], []
    for exponent in EXPONENTS:
        start, rise = line(sizes**-exponent, places)
        apart = places - start[:, None] - rise[:, None] * sizes**-exponent
        found.append(start)
        missed.append((weight * apart**2).sum(axis=1))
    return np.asarray(np.take_along_axis(np.array(found), np.argmin(missed, axis=0)[None], 0)[0])


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def humps(data: Resampled) -> list[str]:
    """Return a warning for every size whose mean curve clearly both rises and falls."""
    found = []
    for s, size in enumerate(data.sizes):
        curve = data.mean[0, s]
        up = float((curve - np.minimum.accumulate(curve)).max())
        down = float((np.maximum.accumulate(curve) - curve).max())
        if min(up, down) > max(2 * CLEAR * float(np.median(data.stderr[s])), 0.05 * float(np.ptp(curve))):
            found.append(
                f"the curve of size {size:g} rises by {up:.3g} and falls by {down:.3g}: a hump, of which one critical "
                "ratio tells one side"
            )
    return found


def by_peak(data: Resampled, zeta_over_nu: float | None = None) -> Estimate:
    """Return where the susceptibility (derivative) peaks, extrapolated from three sizes on.

    The peak grows as size**(1/nu + zeta/nu), which yields 1/nu where zeta/nu is known (0 for a probability of
    crossing). The positions are fitted by alpha_c + b size**(-e) with e = 1/nu, or the exponent of growth
    where 1/nu is not known. Slopes are taken over windows that shrink with the size as the peak does
    (`scaled_slopes`). The peak of n Var over replicates is given beside it.
    """
    found = scaled_slopes(data, zeta_over_nu or 0.0)
    smoothed = np.einsum("bsa,sja->bsj", data.variance, found.value, optimize=True)
    derivative = found.place, found.height, found.edge
    fluctuation = found.steepest(data.ratios, smoothed * data.sizes[:, None])
    table, warnings = [], []
    for s, size in enumerate(data.sizes):
        table.append(
            {
                "size": float(size),
                "derivative_peak": interval(derivative[0][:, s]),
                "derivative_height": interval(derivative[1][:, s]),
                "fluctuation_peak": interval(fluctuation[0][:, s]),
                "fluctuation_height": interval(fluctuation[1][:, s]),
                "half_window": float(found.half_widths[s]),
            }
        )
        for name, peak in (("derivative", derivative), ("fluctuation", fluctuation)):
            if peak[2][0, s] and peak[1][0, s] > 0:
                warnings.append(
                    f"the peak of the {name} lies at the edge of the grid (size {size:g}): widen the ratios"
                )
    if len(data.sizes) < 3:
        return Estimate(derivative[0][:, -1], table=table, warnings=warnings)
    if found.coarse.any():
        coarse = ", ".join(f"{size:g}" for size in data.sizes[found.coarse])
        warnings.append(
            f"too few ratios across the peak of size {coarse}: its height, and 1/nu, come out too low; take ratios "
            "closer together"
        )
    highest = power_law(data.sizes, found.height)
    if len(highest) > 2 and highest[1:].mean() - highest[0] > RAISED * highest[1:].std():
        warnings.append(
            "noise raises the highest slopes: the interval of 1/nu may hold it too seldom; take more replicates, or "
            "ratios with less noise of their own"
        )
    exponent = max(float(highest[0]) - (zeta_over_nu or 0.0), 0.05)
    growth = power_law(data.sizes, found.pooled_height(data.ratios, data.sizes, exponent))
    grown = interval(growth)
    inverse_nu = None if zeta_over_nu is None else widened(growth - zeta_over_nu, data.replicates)
    details = {
        "growth_of_derivative": grown,
        "growth_of_fluctuation": interval(power_law(data.sizes, fluctuation[1])),
    }
    if not (grown.value if np.isnan(grown.low) else grown.low) > 0.05:
        warnings.append("the peak does not grow with size: not extrapolated, the largest size is quoted")
        return Estimate(derivative[0][:, -1], inverse_nu, table=table, warnings=warnings, details=details)
    scaled = data.sizes ** -np.maximum(growth if inverse_nu is None else inverse_nu, 0.05)[:, None]
    alpha_c = line(scaled, derivative[0])[0]
    return Estimate(alpha_c, inverse_nu, table=table, warnings=warnings, details=details)


# --- transition or crossover ------------------------------------------------------------------------


def verdict(data: Resampled) -> tuple[str, list[str], list[str]]:
    """Return (transition, crossover or undecided; the evidence; warnings).

    The steepest slope of the mean curve, times the distance of its place from the nearer end of [0, 1], is a
    sharpness without units. At a transition it grows as a power of the size; where a curve only moves towards
    an end (GER in the number of slots, 2**(-1/M)) or does not change, it does not.
    """
    if len(data.sizes) < 3:
        return (
            "undecided",
            [f"{len(data.sizes)} size{'s' * (len(data.sizes) != 1)}: sharpening cannot be judged"],
            [],
        )
    found = scaled_slopes(data)
    slopes, where, height, edge = found.slopes, found.place, found.height, found.edge
    warnings: list[str] = []
    place = "steepest point"
    if edge[0].any():
        warnings.append("the steepest point lies at the edge of the grid: the half point is judged instead")
        where = crossing(data.ratios, data.mean, 0.5)
        height = at(data.ratios, slopes, where)
        place = "half point"
    if np.isnan(where[0]).any():
        return "undecided", ["some curves have no half point inside the grid"], warnings
    distance = np.minimum(where, 1 - where)
    sharpness = height * distance
    exponent = interval(power_law(data.sizes, sharpness))
    shift = interval(where[:, -1] - where[:, 0])
    evidence = [
        f"sharpness (slope x distance from the end, at the {place}) goes from {sharpness[0, 0]:.3g} at size "
        f"{data.sizes[0]:g} to {sharpness[0, -1]:.3g} at size {data.sizes[-1]:g}: exponent {_told(exponent, '.2f')}",
        f"the {place} moves by {_told(shift, '+.4f')} from the smallest size to the largest",
    ]
    if exponent.low > 0.1:
        return "transition", evidence, warnings
    if exponent.high < 0.3:
        return "crossover", evidence, warnings
    return "undecided", evidence, warnings


def _told(found: Interval, form: str) -> str:
    low, high = ("?" if np.isnan(end) else format(end, form) for end in (found.low, found.high))
    return f"{found.value:{form}} [{low}, {high}]"
