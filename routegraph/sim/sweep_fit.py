"""From the folder of a sweep to a critical fit: which cells, which ratios, which scaling variable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.critical.fit import METHODS, CriticalFit, fit_critical
from routegraph.options import check_whole
from routegraph.sim.observables import observables
from routegraph.sim.sweep import SweepResult, load_sweep
from routegraph.survival import check_ratio


def fit_sweep(
    sweep: str | os.PathLike[str] | SweepResult,
    observable: str,
    *,
    method: str = "half",
    scale: str | None = None,
    where: Mapping[str, Any] | None = None,
    low: float | None = None,
    high: float | None = None,
    points: int = 81,
    skip_damaged: bool = False,
    **options: Any,
) -> tuple[CriticalFit, tuple[str, ...]]:
    """Fit a critical ratio to an observable of a sweep.

    Parameters
    ----------
    sweep : path or SweepResult
    observable : str
    method, **options
        As for `fit_critical`.
    scale : str, optional
        Scaling variable; by default what theory says of the parameters that vary.
    where : mapping, optional
        Only cells with these parameters.
    low, high, points
        Grid of ratios; by default where the curves change.
    skip_damaged : bool
        Leave damaged files out.

    Returns
    -------
    (CriticalFit, tuple of str)
        The fit, and what was wrong with the files left out.

    Raises
    ------
    ValueError
        If the folder is not a sweep, its cells clash, or the fit cannot be made.
    """
    observables[observable]
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose from: {', '.join(METHODS)}")
    check_whole("points", points, low=7, high=10**5)
    if "resamples" in options:
        check_whole("resamples", options["resamples"], low=1, high=10**6)
    exponent = options.get("zeta_over_nu")
    if exponent is not None and not -10 < exponent < 10:  # below 0 of what dies out at the critical ratio
        raise ValueError(f"zeta_over_nu must be in (-10, 10), got {exponent}")
    for bound in (low, high):
        if bound is not None:
            check_ratio(bound)
    loaded = sweep if isinstance(sweep, SweepResult) else load_sweep(sweep, skip_damaged)
    chosen = loaded.where(**where) if where else loaded
    natural = chosen.natural_scale(observable) if scale is None else scale
    chosen = chosen.by_size(natural)
    ratios = ratio_grid(chosen, observable, low, high, points)
    samples = chosen.curves(observable, ratios)
    fit = fit_critical(
        ratios, samples, chosen.sizes(natural), method=method, scale=natural, observable=observable, **options
    )
    return fit, loaded.damaged


def ratio_grid(
    sweep: SweepResult, observable: str, low: float | None, high: float | None, points: int
) -> NDArray[np.float64]:
    """Return ratios where the mean curves lie between 1 % and 99 % of their change, or between given ends."""
    if sweep.cells[0].ratio is not None:
        known = {cell.ratio for cell in sweep.groups[0] if cell.ratio is not None}
        inside = [r for r in sorted(known) if (low or 0) <= r <= (1 if high is None else high)]
        return np.array(inside)
    largest = max(cell.parameters.n_tokens for cell in sweep.cells)
    coarse = np.linspace(0, 1 - 1 / largest, 201)
    mean = sweep.curves(observable, coarse.tolist()).mean(axis=1)
    changing = np.zeros(len(coarse), dtype=bool)
    for curve in mean:
        if np.ptp(curve) > 0:
            level = (curve - curve.min()) / np.ptp(curve)
            changing |= (level > 0.01) & (level < 0.99)
    found = np.flatnonzero(changing)
    first, last = (found[0], found[-1]) if len(found) else (0, len(coarse) - 1)
    begin = coarse[max(first - 1, 0)] if low is None else low
    end = coarse[min(last + 1, len(coarse) - 1)] if high is None else high
    if not begin < end:
        raise ValueError(f"the ratios must rise from --from to --to, got {begin:g} and {end:g}")
    return np.linspace(begin, end, points)
