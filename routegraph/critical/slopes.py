"""Slopes of curves of several sizes, each smoothed over a window that shrinks as its own transition does.

One window for all sizes flattens the steepest curve most, and so makes exponents too small. A window whose width is
the same share of the transition's at every size flattens all of them alike, and no exponent feels it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routegraph.stats.bootstrap import Array, Resampled, at_curved, line, power_law

#: Half width of the window at most so much of (range of the curve) / (its steepest slope); of the grid at most `ROOM`.
SHARE, ROOM = 0.9, 0.3
Peaks = tuple[Array, Array, NDArray[np.bool_]]
#: Half width at least so many steps of the grid.
STEPS = 3


@dataclass(frozen=True, eq=False)
class Slopes:
    """Slopes, and where they are steepest.

    Attributes
    ----------
    half_widths : float64[S]
        Of the windows.
    value, slope : float64[S, A, A]
        Matrices that smooth a curve of each size, and that turn it into its slope.
    slopes : float64[B + 1, S, A]
        Slope of every mean curve, without its sign.
    place, height : float64[B + 1, S]
        Of the steepest point.
    edge : bool[B + 1, S]
        Whether it lies at the end of where it is looked for: the grid, less half a window at either end.
    coarse : bool[S]
        Whether the window had to be wider than its share, for want of ratios.
    """

    half_widths: Array
    value: Array
    slope: Array
    slopes: Array
    place: Array
    height: Array
    edge: NDArray[np.bool_]
    coarse: NDArray[np.bool_]

    def steepest(self, ratios: Array, curves: Array) -> Peaks:
        """Return (place, height, at the edge) of the highest points of curves[B + 1, S, A]."""
        found = []
        for s, half in enumerate(self.half_widths):
            first, last = searched(ratios, half)
            found.append(peak_of(ratios[first:last], curves[:, s, first:last]))
        place, height, edge = (np.stack(parts, axis=1) for parts in zip(*found, strict=True))
        return place, height, edge

    def pooled_height(self, ratios: Array, sizes: Array, exponent: float) -> Array:
        """Return the slope at the place that all sizes agree on, alpha_c + b size**(-exponent), float64[B + 1, S].

        The highest point of a noisy slope is too high; this place is not chosen by the noise of one size. Every
        resample has a place of its own: with that of the data, intervals would not see how unsure it is.
        """
        scaled = sizes**-exponent
        start, rise = line(scaled, self.place)
        margin = np.minimum(self.half_widths, ROOM * np.ptp(ratios))
        where = np.clip(start[:, None] + rise[:, None] * scaled, ratios[0] + margin, ratios[-1] - margin)
        return at_curved(ratios, self.slopes, where)


def searched(ratios: Array, half: float) -> tuple[int, int]:
    """Return the range of points with half a window on either side; three in the middle at least."""
    near = half * (1 - 1e-9)
    first = int(np.searchsorted(ratios, ratios[0] + near))
    last = int(np.searchsorted(ratios, ratios[-1] - near, side="right"))
    if last - first >= 3:
        return first, last
    middle = len(ratios) // 2
    return max(middle - 1, 0), max(middle - 1, 0) + 3


def local_cubic(x: Array, half: float) -> tuple[Array, Array]:
    """Return (smooth, slope), float64[A, A] each: a cubic around each point, weighted by the tricube of a window.

    With fewer than 7 points the curve is left as it is and the slope is by central differences. Cleveland (1979).
    """
    if len(x) < 7:
        return np.eye(len(x)), np.asarray(np.gradient(np.eye(len(x)), x, axis=0))
    # At the ends of the grid the window grows until it holds enough points for a cubic.
    distance = np.abs(x - x[:, None])
    reach = np.maximum(half, 1.01 * np.sort(distance, axis=1)[:, 5])[:, None]
    scaled = (x - x[:, None]) / reach
    weight = np.clip(1 - np.abs(scaled) ** 3, 0, None) ** 3
    powers = scaled[..., None] ** np.arange(4)
    inverse = np.linalg.pinv(np.einsum("ja,jai,jak->jik", weight, powers, powers), hermitian=True)
    fitted = np.einsum("jik,jak,ja->ija", inverse[:, :2], powers, weight)
    return fitted[0], fitted[1] / reach


def scaled_slopes(data: Resampled, zeta_over_nu: float = 0.0, rounds: int = 4) -> Slopes:
    """Return the slopes of mean curves, each over a window of half width c size**(-1/nu).

    Parameters
    ----------
    data : Resampled
    zeta_over_nu : float
        The steepest slope grows as size**(1/nu + zeta/nu): what to take from its growth to get 1/nu.
    rounds : int
        The exponent is read off the slopes that the windows give, and the windows are made from the exponent.
    """
    x, sizes, mean = data.ratios, data.sizes, data.mean
    span, step = float(np.ptp(x)), float(np.diff(x).max())
    slopes = np.abs(mean @ data.smoother[1].T)
    place, height, edge = peak_of(x, slopes)
    change = np.ptp(mean[0], axis=-1)
    for _ in range(rounds):
        exponent = max(float(power_law(sizes, height)[0]) - zeta_over_nu, 0.0) if len(sizes) > 1 else 0.0
        exponent = exponent if np.isfinite(exponent) else 0.0
        room = np.clip(np.minimum(place[0] - x[0], x[-1] - place[0]), 0.1 * span, ROOM * span)
        share = np.where(height[0] > 0, SHARE * change / np.maximum(height[0], 1e-300), span)
        wanted = float((np.minimum(room, share) * sizes**exponent).min()) * sizes**-exponent
        half = np.maximum(wanted, STEPS * step)
        smooth, slope = (
            np.stack(parts) for parts in zip(*(local_cubic(x, one) for one in half), strict=True)
        )
        slopes = np.abs(np.einsum("bsa,sja->bsj", mean, slope, optimize=True))
        made = Slopes(half, smooth, slope, slopes, place, height, edge, half > 1.5 * wanted)
        place, height, edge = made.steepest(x, slopes)
    return Slopes(half, smooth, slope, slopes, place, height, edge, half > 1.5 * wanted)


def peak_of(x: Array, curves: Array) -> Peaks:
    """Return (position, height, at the edge) of the highest point of curves[..., A], by a parabola."""
    top = np.argmax(curves, axis=-1)
    edge = (top == 0) | (top == len(x) - 1)
    middle = np.clip(top, 1, len(x) - 2)
    points = [np.take_along_axis(curves, (middle + d)[..., None], -1)[..., 0] for d in (-1, 0, 1)]
    left, right = x[middle] - x[middle - 1], x[middle + 1] - x[middle]
    rise, fall = (points[1] - points[0]) / left, (points[2] - points[1]) / right
    curvature = (fall - rise) / (left + right)
    slope = (rise * right + fall * left) / (left + right)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.where(curvature < 0, -slope / (2 * curvature), 0.0)
    step = np.clip(step, -left, right)
    height = points[1] + slope * step + curvature * step**2
    return (
        np.where(edge, x[top], x[middle] + step),
        np.where(edge, np.take_along_axis(curves, top[..., None], -1)[..., 0], height),
        edge,
    )
