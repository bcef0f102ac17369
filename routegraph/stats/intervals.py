"""Intervals: a value with its 95 % interval, standard errors, and both as JSON-ready values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]


class Interval(NamedTuple):
    """A value with its 95 % interval; NaN where the curve never gets there."""

    value: float
    low: float
    high: float


#: Where there is no value.
NOWHERE = Interval(float("nan"), float("nan"), float("nan"))


def standard_error(curves: Curve) -> Curve:
    """Return the standard error of the mean over rows, NaN for a single one."""
    if len(curves) < 2:
        return np.full(curves.shape[1], np.nan)
    return np.asarray(curves.std(axis=0, ddof=1) / np.sqrt(len(curves)))


def none_of(value: float) -> float | None:
    """Return a number as JSON has it; NaN becomes None."""
    return None if np.isnan(value) else float(value)


def of_none(value: float | None) -> float:
    """Return what `none_of` made of a number; None becomes NaN."""
    return float("nan") if value is None else float(value)


def listed(values: Curve) -> list[float | None]:
    """Return values as a list; NaN becomes None."""
    return [None if np.isnan(value) else float(value) for value in values]


def unlisted(values: Sequence[float | None]) -> Curve:
    """Return what `listed` made a list of, float64[n]; None becomes NaN."""
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def interval_dict(found: Interval) -> dict[str, float | None]:
    """Return an interval as JSON-ready values."""
    return {key: None if np.isnan(value) else float(value) for key, value in found._asdict().items()}


def interval_of(told: Mapping[str, float | None] | None) -> Interval:
    """Return an interval from what `interval_dict` made of it; NaN where there is none."""
    if told is None:
        return NOWHERE
    return Interval(*(np.nan if told[name] is None else float(told[name] or 0) for name in Interval._fields))
