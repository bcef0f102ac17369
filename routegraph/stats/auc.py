"""Which metric tells the items that fail: pairs of items within cells of the same policy, ratio and task.

Over the ratio every metric rises with the failures, as two monotone curves do, which proves nothing. Within a cell
the ratio is the same for all, and the AUC is the chance that a failing item has the larger value than one that
does not (ties count half). Cells are pooled by pairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.stats.bootstrap import interval
from routegraph.stats.intervals import NOWHERE, Interval


@dataclass(frozen=True)
class Auc:
    """How well one metric tells the failing items.

    Attributes
    ----------
    metric : str
    auc : Interval
        .5: not at all; above: in the direction that `METRICS` names. 95 %, bootstrap over items. NaN: no cell.
    cells, pairs, items : int
        Cells with enough of both classes, pairs of a failing and a holding item in them, and distinct items.
    """

    metric: str
    auc: Interval
    cells: int
    pairs: int
    items: int

    @property
    def tells(self) -> str:
        """What the interval says: "yes", "no" (it holds .5), "reversed" or "-"."""
        if np.isnan(self.auc.value):
            return "-"
        if self.auc.low > 0.5:
            return "yes"
        return "reversed" if self.auc.high < 0.5 else "no"


@dataclass(frozen=True, eq=False)
class Resampled:
    """The AUC of a metric on the data and on resamples of the items.

    Attributes
    ----------
    shares : float64[1 + resamples]
        That of the data first; NaN where a resample has no pair. Of two metrics with one seed, resample by resample
        of the same items.
    cells, pairs, items : int
        See `Auc`.
    """

    shares: NDArray[np.float64]
    cells: int
    pairs: int
    items: int


def pooled_auc(
    metric: str,
    cells: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]],
    n_items: int,
    *,
    least: int = 5,
    resamples: int = 1000,
    seed: int = 0,
) -> Auc:
    """Return the AUC of a metric over all pairs within cells.

    Parameters
    ----------
    metric : str
        Name, for the result.
    cells : iterable of (int[k], float[k], bool[k])
        Number of each item, its value (larger: should fail; NaN: left out), and whether it fails.
    n_items : int
        Items are numbered 0..n_items - 1.
    least : int
        Cells count that have so many of both classes.
    resamples, seed : int
        Bootstrap: items are drawn with replacement, and all that was measured of an item goes with it.
    """
    found = resampled_auc(cells, n_items, least=least, resamples=resamples, seed=seed)
    if not found.cells:
        return Auc(metric, NOWHERE, 0, 0, 0)
    share = found.shares[~np.isnan(found.shares)]
    return Auc(metric, interval(share), found.cells, found.pairs, found.items)


def resampled_auc(
    cells: Iterable[tuple[ArrayLike, ArrayLike, ArrayLike]],
    n_items: int,
    *,
    least: int = 5,
    resamples: int = 1000,
    seed: int = 0,
) -> Resampled:
    """Return the AUC over all pairs within cells, on the data and on resamples; parameters as of `pooled_auc`."""
    tables = []
    for items, values, fails in cells:
        number, value, failed = np.asarray(items), np.asarray(values, dtype=float), np.asarray(fails)
        known = np.isfinite(value)
        bad, good = known & failed, known & ~failed
        if min(bad.sum(), good.sum()) < least:
            continue
        ahead = value[bad][:, None] - value[good][None]
        tables.append((number[bad], number[good], (np.sign(ahead) + 1) / 2))
    if not tables:
        return Resampled(np.full(1 + resamples, np.nan), 0, 0, 0)
    draws = np.random.default_rng(seed).integers(n_items, size=(resamples, n_items))
    times = np.stack([np.bincount(draw, minlength=n_items) for draw in draws]).astype(float)
    times = np.concatenate([np.ones((1, n_items)), times])
    won, pairs = np.zeros(len(times)), np.zeros(len(times))
    for bad, good, table in tables:
        won += ((times[:, bad] @ table) * times[:, good]).sum(axis=1)
        pairs += times[:, bad].sum(axis=1) * times[:, good].sum(axis=1)
    share = np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan)
    seen = np.unique(np.concatenate([side for bad, good, _ in tables for side in (bad, good)]))
    return Resampled(share, len(tables), int(pairs[0]), len(seen))
