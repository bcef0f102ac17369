"""Where the Binder cumulant does not depend on the size."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import chdtrc

from routegraph.critical.estimate import Estimate
from routegraph.critical.points import crossing
from routegraph.critical.slopes import scaled_slopes
from routegraph.stats.bootstrap import Array, Resampled, at, interval, line, power_law, variance
from routegraph.stats.intervals import Interval

#: A cumulant differs from size to size where its trend is more than so many standard errors from 0: 95 %.
BEYOND = 1.96
#: There is something to cross where the trend is so many standard errors from 0 at its surest.
SURE = 3.0


def binder(data: Resampled) -> Array:
    """Return <m^2>^2 / <m^4>, float64[B + 1, S, A]; 1 / (3 (1 - U)) for the Binder cumulant U.

    It crosses where U does and stays in [0, 1].
    """
    return _share(data.moments[1] ** 2, data.moments[3])


def second_moment(data: Resampled) -> Array:
    """Return <m>^2 / <m^2>, float64[B + 1, S, A], in [0, 1]."""
    return _share(data.moments[0] ** 2, data.moments[1])


def _share(top: Array, bottom: Array) -> Array:
    return np.asarray(np.where(bottom > 1e-300, top / np.maximum(bottom, 1e-300), 0.0))


def cross_between(x: Array, difference: Array) -> Array:
    """Return where difference[..., A] changes sign between its highest and its lowest point; NaN if nowhere.

    Both ends of a ratio grid hold curves that are equal up to noise; the crossing lies between the lobes.
    """
    high, low = np.argmax(difference, axis=-1), np.argmin(difference, axis=-1)
    first, last = np.minimum(high, low), np.maximum(high, low)
    inside = np.arange(len(x))
    hidden = (inside < first[..., None]) | (inside > last[..., None])
    # Beyond the lobes the difference is held at theirs, so that nothing crosses there.
    left = np.take_along_axis(difference, first[..., None], -1)
    right = np.take_along_axis(difference, last[..., None], -1)
    held = np.where(hidden, np.where(inside < first[..., None], left, right), difference)
    straddles = (difference.max(axis=-1) > 0) & (difference.min(axis=-1) < 0)
    return np.where(straddles, crossing(x, held, 0.0), np.nan)


class Region(NamedTuple):
    """Ratios at which a trend may be 0: `low` to `high`, and whether the trend is sure to change its sign there."""

    low: float
    high: float
    closed: bool


def trend(curves: Array, sizes: Array) -> Array:
    """Return the slope of curves[B + 1, S, A] in the logarithm of the size, float64[B + 1, A]."""
    x = np.log(sizes) - np.log(sizes).mean()
    return np.asarray(np.einsum("s,bsa->ba", x / (x**2).sum(), curves))


def region(x: Array, trends: Array) -> Region:
    """Return where the trend, float64[B + 1, A], is not told from 0 between its two lobes.

    It is read off standard errors at each ratio, not off where resamples cross: of a trend that hardly comes back on
    one side, many resamples never cross, which says nothing of the others (Fieller, 1954). From the lobe that is
    surest it goes until the trend is clearly of the other sign, or to the end of the grid, and then is not closed.
    """
    clear = trends[0] / (trends[1:].std(axis=0) + 1e-12)
    lobe = int(np.argmax(np.abs(clear)))
    sign = np.sign(clear[lobe])
    if np.abs(clear[lobe]) < SURE:
        return Region(np.nan, np.nan, False)
    other = int(np.argmin(sign * clear))
    step = 1 if other > lobe else -1
    path = sign * clear[lobe:] if step > 0 else sign * clear[: lobe + 1][::-1]
    places = x[lobe:] if step > 0 else x[: lobe + 1][::-1]
    begin = crossing(places, path, BEYOND)
    end = crossing(places, path, -BEYOND)
    if np.isnan(begin):
        return Region(np.nan, np.nan, False)
    closed = not np.isnan(end)
    low, high = sorted((float(begin), float(end) if closed else float(places[-1])))
    return Region(low, high, closed)


def by_binder(data: Resampled) -> Estimate:
    """Return where the Binder cumulant has no trend in the size; crossings of successive sizes beside it.

    At the critical ratio all sizes have the same cumulant: its slope in the logarithm of the size, over all sizes at
    once, changes its sign there. The interval is where that slope is not told from 0 (`region`). Where it is not told
    from 0 up to an end of the grid, that end stands in, and 1/nu is not given; a warning says so. Where the cumulants
    meet in no point (chi-squared, 5 %) and three pairs or more cross, the crossings of pairs are extrapolated instead,
    alpha_c + b size**-2. 1/nu comes from the slopes at the critical ratio.

    Raises
    ------
    ValueError
        If there is one size only, or replicates are equal.
    """
    if len(data.sizes) < 2:
        raise ValueError("method 'binder' needs at least 2 sizes, got 1")
    if not data.stderr.any():
        raise ValueError("method 'binder' needs replicates that differ from one another, got equal ones")
    smooth, _ = data.smoother
    curves = {"binder": binder(data) @ smooth.T, "second_moment": second_moment(data) @ smooth.T}
    found = {name: cross_between(data.ratios, each[:, 1:] - each[:, :-1]) for name, each in curves.items()}
    table: list[dict[str, Any]] = []
    for s in range(len(data.sizes) - 1):
        row: dict[str, Any] = {"size": float(data.sizes[s]), "next_size": float(data.sizes[s + 1])}
        table.append(row | {name: interval(x[:, s]) for name, x in found.items()})
    trends = {name: trend(each, data.sizes) for name, each in curves.items()}
    places = {name: cross_between(data.ratios, each) for name, each in trends.items()}
    alpha_c, told = places["binder"], region(data.ratios, trends["binder"])
    second = region(data.ratios, trends["second_moment"])
    details: dict[str, Any] = {
        "combined_by": "trend over all sizes",
        "second_moment_alpha_c": Interval(float(places["second_moment"][0]), second.low, second.high),
    }
    ends: Interval | None = Interval(float(alpha_c[0]), told.low, told.high)
    warnings = _open(told, data.ratios)
    if told.closed and _apart(data, curves["binder"], told):
        warnings.append("the cumulants of all sizes meet in no point: the crossing moves with the size")
        limit = _limit(data.sizes, found["binder"])
        if limit is not None:
            alpha_c, ends, details["combined_by"] = limit, None, "limit in size"
    inverse_nu = None
    if told.closed and len(data.sizes) > 2:
        slopes = np.abs(np.einsum("bsa,sja->bsj", binder(data), scaled_slopes(data).slope, optimize=True))
        where = np.broadcast_to(alpha_c[:, None], slopes.shape[:2])
        inside = np.where((where > data.ratios[0]) & (where < data.ratios[-1]), where, np.nan)
        inverse_nu = power_law(data.sizes, at(data.ratios, slopes, inside))
    return Estimate(alpha_c, inverse_nu, table=table, warnings=warnings, details=details, ends=ends)


def _open(told: Region, ratios: Array) -> list[str]:
    """Return what is to be said of a region that is not closed on both sides."""
    if told.closed:
        return []
    if np.isnan(told.low):
        return ["no significant crossing of the cumulants: they hardly differ from size to size"]
    above = told.high == ratios[-1]
    side, end = ("above", told.high) if above else ("below", told.low)
    return [
        f"no significant crossing of the cumulants: {side} the critical ratio they hardly differ from size to size, so "
        f"that its interval ends where the ratios do ({end:g}), and 1/nu is not told; more replicates"
    ]


def _apart(data: Resampled, curves: Array, told: Region) -> bool:
    """Tell whether the cumulants of the sizes differ everywhere in the region (chi-squared, 5 %)."""
    inside = (data.ratios >= told.low) & (data.ratios <= told.high)
    if len(data.sizes) < 3 or not inside.any():
        return False
    weight = 1 / np.maximum(curves[1:].var(axis=0), 1e-24)
    mean = (weight * curves[0]).sum(axis=0) / weight.sum(axis=0)
    apart = (weight * (curves[0] - mean) ** 2).sum(axis=0)
    return bool(chdtrc(len(data.sizes) - 2, apart[inside].min()) < 0.05)


def _limit(sizes: Array, crossings: Array) -> Array | None:
    """Return the limit in size of crossings[B + 1, S - 1], float64[B + 1]; None of fewer than three that are sure."""
    spread = variance(crossings)
    usable = np.isfinite(crossings[0]) & (np.isnan(crossings).mean(axis=0) < 0.025) & (spread > 0)
    if usable.sum() < 3:
        return None
    pairs = np.sqrt(sizes[1:] * sizes[:-1])[usable]
    return line(pairs**-2.0, crossings[:, usable])[0]
