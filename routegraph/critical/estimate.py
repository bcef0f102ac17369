"""A critical point with every resample of it: what each method of `fit_critical` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from routegraph.stats.bootstrap import Array, interval
from routegraph.stats.intervals import Interval


@dataclass(frozen=True, eq=False)
class Estimate:
    """A critical point for the data (row 0) and for every resample.

    Attributes
    ----------
    alpha_c : float64[B + 1]
    inverse_nu, zeta_over_nu : float64[B + 1] or None
        Exponents, where the method yields them.
    quality : float or None
        Houdayer-Hartmann quality of a collapse.
    table : list of dict
        What it was made from: a row a size, or a pair of sizes.
    warnings : list of str
    details : dict
        Further figures of the method.
    ends : Interval or None
        The critical point with its 95 % interval, where that is not of the percentiles of `alpha_c`.
    """

    alpha_c: Array
    inverse_nu: Array | None = None
    zeta_over_nu: Array | None = None
    quality: float | None = None
    table: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    ends: Interval | None = None

    @property
    def interval(self) -> Interval:
        """The critical point with its 95 % interval."""
        return interval(self.alpha_c) if self.ends is None else self.ends
