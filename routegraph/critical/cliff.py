"""Measured curves, k out of n at each ratio: where the cliff is, and whether it is one.

Cliff: k ~ binomial(n, before + (after - before) / (1 + exp(-(ratio - alpha_c) / width))), before and after free.
Gradual: a straight line or a parabola in the ratio. The correlation of two monotone curves proves nothing;
these models are compared on the counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, expit, xlogy

from routegraph.stats.bootstrap import resample_weights
from routegraph.stats.intervals import Interval

Array = NDArray[np.float64]
#: Drop of twice the log-likelihood at the end of a 95 % profile interval (chi-squared, one parameter).
DROP = 3.841459
#: The 10-90 % width of a logistic over its scale.
RISE = 2 * np.log(9)
_FLOOR = 1e-9


@dataclass(frozen=True)
class Cliff:
    """What measured counts say.

    Attributes
    ----------
    alpha_c : Interval
        Midpoint of the logistic, with its profile-likelihood interval.
    width : Interval
        Ratios from 10 % to 90 % of the change, likewise.
    before, after : float
        Rates on either side.
    log_likelihood : dict of str to float
        Of constant, line, parabola and cliff.
    aicc : dict of str to float
        Akaike's criterion, corrected for few items (2 k + ... at n = all items).
    p_gradual : float
        Chance of a gain at least as large as the observed one if the better gradual model were true
        (parametric bootstrap of the likelihood ratio).
    verdict : {"cliff", "gradual", "flat", "undecided"}
    evidence : list of str
    warnings : list of str
    """

    alpha_c: Interval
    width: Interval
    before: float
    after: float
    log_likelihood: dict[str, float]
    aicc: dict[str, float]
    p_gradual: float
    verdict: str
    evidence: list[str]
    warnings: list[str]


def log_likelihood(k: Array, n: Array, p: Array) -> Array:
    """Return the binomial log-likelihood, without its constant, summed over the last axis."""
    p = np.clip(p, _FLOOR, 1 - _FLOOR)
    return np.asarray((xlogy(k, p) + xlogy(n - k, 1 - p)).sum(axis=-1))


def shapes(ratios: Array, places: int = 61, widths: int = 25) -> tuple[Array, Array, Array]:
    """Return a grid of logistics: midpoints [P], scales [W], values [P, W, A]."""
    span, step = ratios[-1] - ratios[0], float(np.diff(ratios).min())
    midpoints = np.linspace(ratios[0], ratios[-1], places)
    scales = np.geomspace(step / 50, span, widths)
    return midpoints, scales, expit((ratios - midpoints[:, None, None]) / scales[:, None])


def mix(k: Array, n: Array, shape: Array, rounds: int) -> tuple[Array, Array, Array]:
    """Return (before, after, log-likelihood) of the best p = before (1 - shape) + after shape, by EM.

    k : float64[..., A] against shape : float64[..., A], broadcast.
    """
    k, n, shape = np.broadcast_arrays(k, n, shape)
    rest = 1 - shape
    mass = [np.maximum((n * part).sum(axis=-1), _FLOOR) for part in (rest, shape)]
    before, after = (
        np.clip((k * part).sum(axis=-1) / m, 0.01, 0.99) for part, m in zip((rest, shape), mass, strict=True)
    )
    for _ in range(rounds):
        p = np.clip(before[..., None] * rest + after[..., None] * shape, _FLOOR, 1 - _FLOOR)
        hit, miss = k / p, (n - k) / (1 - p)
        new = []
        for level, part in ((before, rest), (after, shape)):
            yes = level * (hit * part).sum(axis=-1)
            no = (1 - level) * (miss * part).sum(axis=-1)
            new.append(np.clip(yes / np.maximum(yes + no, _FLOOR), _FLOOR, 1 - _FLOOR))
        before, after = new
    p = before[..., None] * rest + after[..., None] * shape
    return before, after, log_likelihood(k, n, p)


def polynomial(k: Array, n: Array, ratios: Array, degree: int, rounds: int = 60) -> Array:
    """Return the best polynomial of the ratio for the rate, clipped into (0, 1), float64[..., A].

    By scoring: weighted least squares with the weights of the current fit, the best round kept.
    """
    x = (ratios - ratios.mean()) / max(float(np.ptp(ratios)), 1e-12)
    design = np.vander(x, degree + 1, increasing=True)
    rate = k / n
    weight = n / np.maximum(rate * (1 - rate), 0.05)
    best = np.broadcast_to(np.clip((k.sum(-1) / n.sum(-1)), _FLOOR, 1 - _FLOOR)[..., None], k.shape).copy()
    top = log_likelihood(k, n, best)
    for _ in range(rounds):
        normal = np.einsum("...a,ai,aj->...ij", weight, design, design) + 1e-10 * np.eye(degree + 1)
        right = np.einsum("...a,ai->...i", weight * rate, design)
        fitted = np.clip(np.linalg.solve(normal, right[..., None])[..., 0] @ design.T, 1e-4, 1 - 1e-4)
        value = log_likelihood(k, n, fitted)
        better = value > top
        best, top = np.where(better[..., None], fitted, best), np.where(better, value, top)
        weight = n / (fitted * (1 - fitted))
    return best


def fit_cliff(
    ratios: ArrayLike,
    counts: ArrayLike,
    trials: ArrayLike,
    simulations: int = 300,
    seed: int = 0,
    outcomes: NDArray[np.bool_] | None = None,
) -> Cliff:
    """Fit counts by a cliff and by gradual declines.

    Parameters
    ----------
    ratios : float[A]
        At least four, increasing.
    counts, trials : int[A]
        Hallucinated (or failed, or correct) out of asked, at each ratio.
    simulations, seed : int
        Parametric bootstrap of the likelihood ratio.
    outcomes : bool[n_items, A], optional
        What the counts are of, where the same items were asked at every ratio.

    Raises
    ------
    ValueError
        If counts do not fit trials, there are fewer than four ratios, or all rates are equal.

    Notes
    -----
    Intervals are profile likelihoods over a grid of midpoints and widths, so that a cliff between two ratios is
    located no better than to that gap. Of independent counts twice the log-likelihood may fall by `DROP` at their
    ends. Counts of the same items are not independent: with `outcomes` it may fall by as much as it does, in 95 of 100
    resamples of the items, from its top to where the data put it (never less than `DROP`). The likelihood ratio behind
    the verdict takes the counts as independent either way.
    """
    x, k, n = (np.asarray(v, dtype=float) for v in (ratios, counts, trials))
    n = np.broadcast_to(n, k.shape).astype(float)
    if x.ndim != 1 or x.shape != k.shape or len(x) < 4:
        raise ValueError(f"at least 4 ratios with one count each are needed, got {len(x)} and {k.shape}")
    if (n < 1).any() or (k < 0).any() or (k > n).any() or (np.r_[k, n] % 1).any():
        raise ValueError("counts must be whole numbers in 0..trials, trials at least 1")
    if np.ptp(k / n) == 0:
        raise ValueError("all rates are equal: there is nothing to fit")
    midpoints, scales, shape = shapes(x)
    surface = mix(k, n, shape, rounds=100)[2]
    at_edge = int(surface.max(axis=1).argmax()) in (0, len(midpoints) - 1)
    places, spreads = surface.max(axis=1), surface.max(axis=0)
    drops = (DROP, DROP)
    if outcomes is not None:
        drops = _drops(x, outcomes, _profile(midpoints, places, DROP), _profile(scales, spreads, DROP), seed)
    # Once more, on a grid that is fine where the likelihood is high.
    midpoints = np.linspace(*_around(midpoints, places, drops[0]), 41)
    scales = np.geomspace(*_around(scales, spreads, drops[1]), 31)
    before, after, surface = mix(k, n, expit((x - midpoints[:, None, None]) / scales[:, None]), rounds=100)
    best = np.unravel_index(int(np.argmax(surface)), surface.shape)
    alpha_c = _profile(midpoints, surface.max(axis=1), drops[0])
    scale = _profile(scales, surface.max(axis=0), drops[1])
    width = Interval(*(RISE * value for value in scale))
    null = {
        "constant": np.full_like(x, k.sum() / n.sum()),
        "line": polynomial(k, n, x, 1),
        "parabola": polynomial(k, n, x, 2),
    }
    told = {name: float(log_likelihood(k, n, p)) for name, p in null.items()} | {
        "cliff": float(surface.max())
    }
    counted = {"constant": 1, "line": 2, "parabola": 3, "cliff": 4}
    items = float(n.sum())
    aicc = {m: 2 * c - 2 * told[m] + 2 * c * (c + 1) / max(items - c - 1, 1.0) for m, c in counted.items()}
    gradual = min(("line", "parabola"), key=lambda name: aicc[name])
    p_gradual = _bootstrap(x, n, null[gradual], gradual, told["cliff"] - told[gradual], simulations, seed)
    flat = told["cliff"] - told["constant"] < 0.5 * 7.814728  # chi-squared, 3 parameters, 95 %
    span = float(np.ptp(x))
    evidence = [
        f"AICc: cliff {aicc['cliff']:.1f}, line {aicc['line']:.1f}, parabola {aicc['parabola']:.1f}, "
        f"constant {aicc['constant']:.1f} (smaller is better)",
        f"likelihood ratio of the cliff against the {gradual}: p = {p_gradual:.3g} ({simulations} simulations of "
        "independent counts)",
        f"width from 10 to 90 %: {width.value:.3g} [{width.low:.3g}, {width.high:.3g}] of a range of {span:.3g}",
    ]
    if outcomes is not None:
        evidence.append(
            f"{len(outcomes)} items, the same at every ratio, resampled: twice the log-likelihood may fall by "
            f"{drops[0]:.2f} at the ends of the interval (by {DROP:.2f}, were the counts independent)"
        )
    if flat:
        verdict = "flat"
    elif p_gradual < 0.05 and aicc["cliff"] < aicc[gradual] and width.high < span / 2:
        verdict = "cliff"
    elif p_gradual > 0.05 and aicc[gradual] <= aicc["cliff"] + 2:
        verdict = "gradual"
    else:
        verdict = "undecided"
    warnings = []
    inside = int(((x > alpha_c.low - 1e-9) & (x < alpha_c.high + 1e-9)).sum())
    if at_edge:
        warnings.append("the cliff lies at the edge of the ratios: add ratios beyond it")
    if inside < 1 and verdict == "cliff":
        warnings.append("no ratio lies inside the interval of the critical ratio: it is known to a gap only")
    if outcomes is None:
        warnings.append(
            "which items are behind the counts is not known, and they are taken as independent: where the same items "
            "were asked at every ratio, the interval may be too narrow"
        )
    misfit = 2 * (log_likelihood(k, n, k / n) - told["cliff"])
    if len(x) > 4 and chdtrc(len(x) - 4, max(float(misfit), 0.0)) < 0.005:
        warnings.append(
            f"no single step describes the rates (deviance {misfit:.1f} on {len(x) - 4} degrees of freedom): a hump, "
            "or several steps, of which the critical ratio is none"
        )
    if n.min() < 20:
        warnings.append(f"only {int(n.min())} items at some ratio")
    if alpha_c.high - alpha_c.low > span / 2:
        warnings.append("the interval of the critical ratio is wider than half of the range")
    return Cliff(
        alpha_c,
        width,
        float(before[best]),
        float(after[best]),
        told,
        aicc,
        p_gradual,
        verdict,
        evidence,
        warnings,
    )


def _drops(
    x: Array, outcomes: NDArray[np.bool_], place: Interval, scale: Interval, seed: int, resamples: int = 200
) -> tuple[float, float]:
    """Return by how much twice the log-likelihood may fall at the ends of the intervals of place and scale."""
    weights = resample_weights(len(outcomes), resamples, np.random.default_rng([seed, 1]))[1:]
    counts = np.rint(len(outcomes) * (weights @ outcomes))
    reach = 1.25 * max(place.high - place.low, float(np.diff(x).min()))
    places = np.linspace(max(place.value - reach, x[0]), min(place.value + reach, x[-1]), 13)
    scales = np.geomspace(scale.low / 1.5, scale.high * 1.5, 8)
    places = np.sort(np.append(places, place.value))
    scales = np.sort(np.append(scales, scale.value))
    shape = expit((x - places[:, None, None]) / scales[:, None])
    surface = mix(counts[:, None, None, :], np.array(float(len(outcomes))), shape, rounds=20)[2]
    top = surface.max(axis=(1, 2))
    at_place = surface[:, np.searchsorted(places, place.value)].max(axis=1)
    at_scale = surface[:, :, np.searchsorted(scales, scale.value)].max(axis=1)
    found = [float(np.quantile(2 * (top - one), 0.95)) for one in (at_place, at_scale)]
    return max(found[0], DROP), max(found[1], DROP)


def _around(grid: Array, profile: Array, drop: float) -> tuple[float, float]:
    """Return the ends of where twice the profile is within `drop` of its top, a grid step outwards."""
    inside = np.flatnonzero(2 * (profile.max() - profile) <= drop)
    return float(grid[max(inside[0] - 1, 0)]), float(grid[min(inside[-1] + 1, len(grid) - 1)])


def _profile(grid: Array, profile: Array, drop: float) -> Interval:
    """Return the best grid value and where twice the profile is `drop` below its top, by interpolation."""
    short = 2 * (profile.max() - profile) - drop
    inside = np.flatnonzero(short <= 0)
    ends = []
    for last, outer in ((inside[0], inside[0] - 1), (inside[-1], inside[-1] + 1)):
        share = short[outer] / (short[outer] - short[last]) if 0 <= outer < len(grid) else 1.0
        ends.append(float(grid[last] * share + grid[outer] * (1 - share)) if share < 1 else float(grid[last]))
    # On a plateau (a cliff between two ratios) the middle of it is quoted.
    plateau = np.flatnonzero(profile.max() - profile < 1e-3)
    return Interval(float(grid[plateau[len(plateau) // 2]]), *ends)


def _bootstrap(
    x: Array, n: Array, rates: Array, gradual: str, gain: float, simulations: int, seed: int
) -> float:
    """Return how often counts drawn from the gradual model gain as much by the cliff, counting the data."""
    rng = np.random.default_rng(seed)
    drawn = rng.binomial(n.astype(np.int64), rates, size=(simulations, len(x))).astype(float)
    _, _, shape = shapes(x, places=25, widths=7)
    cliffs = mix(drawn[:, None, None, :], n, shape[None], rounds=25)[2].max(axis=(1, 2))
    lines = log_likelihood(drawn, n, polynomial(drawn, n, x, 1 if gradual == "line" else 2))
    # The data's gain on the fine grid is at least that on the coarse one: the test errs by little, named here.
    return float((1 + (cliffs - lines >= gain - 1e-9).sum()) / (1 + simulations))
