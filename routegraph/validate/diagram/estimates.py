"""What is kept at a ratio and bits, told without decoding the two together, and how far that is from what is measured.

- product: share kept at the ratio alone times share kept with the bits alone, as if they broke answers independently;
- both: share of the items that are right at the ratio alone and with the bits alone;
- simulated: share kept at that ratio alone at which eviction moves as much attention as ratio and bits do together,
  with the bits a Gaussian noise on every logit, of the size measured for them (`routegraph.validate.noise`);
- calibrated: the same, but how much a share of attention moved by the bits counts, in attention moved by eviction, is
  read off the share kept with the bits alone, once for every precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routegraph.stats.bootstrap import interval, resample_weights
from routegraph.stats.intervals import Interval
from routegraph.validate.diagram.cells import Grid

Floats = NDArray[np.float64]
_RESAMPLES = 1000
#: Attention moved by bits alone below it is none.
_LEAST = 1e-9

#: Shares of the answers kept of which there are lines.
LEVELS = (0.9, 0.5)
MEANINGS = {
    "measured": "of the items right with nothing removed and the cache as it is, the share still right",
    "product": "share kept at the ratio alone times share kept with the bits alone: as if they broke answers "
    "independently; nothing is decoded at both",
    "both": "share of the items that are right at the ratio alone and with the bits alone; nothing is decoded at both",
    "simulated": "share kept at the ratio alone at which eviction moves as much attention as ratio and bits do "
    "together, the bits being Gaussian noise on every logit of the size measured for them; by straight lines between "
    "the ratios measured, and never more than nothing moved or less than at the last ratio",
    "calibrated": "the same, where attention that the bits move counts as much as makes bits alone keep what they were "
    "measured to keep; beyond the last ratio by a straight line to nothing kept where all attention moves",
}


@dataclass(frozen=True, eq=False)
class Estimate:
    """What is kept by one estimate, and its error.

    Attributes
    ----------
    name : str
        Of `MEANINGS`.
    kept : float64[n_bits, n_ratios]
    error : Interval
        Mean over the cells judged of |estimate - measured|, 95 % bootstrap over items.
    bias : Interval
        Mean of estimate - measured there.
    cells : int
        How many were judged: those of both bits and a ratio above 0.
    alone : Interval, optional
        The error of bits alone, where they are estimated and not taken as measured.
    """

    name: str
    kept: Floats
    error: Interval
    bias: Interval
    cells: int
    alone: Interval | None = None


def estimates(grid: Grid, moved: Floats | None = None, seed: int = 0) -> list[Estimate]:
    """Return every estimate of a grid.

    Parameters
    ----------
    grid : Grid
    moved : float64[n_bits, n_ratios], optional
        Share of the attention that moves, simulated; without it there is no simulated estimate.
    seed : int
        Of the bootstrap.
    """
    held = grid.held.astype(float)
    weights = resample_weights(len(held), _RESAMPLES, np.random.default_rng(seed))
    weights = np.concatenate([np.full((1, len(held)), 1 / len(held)), weights])
    measured = np.tensordot(weights, held, axes=1)
    alone, bits = measured[:, :1, :], measured[:, :, :1]
    made = {
        "product": alone * bits,
        "both": np.tensordot(weights, held[:, :1, :] * held[:, :, :1], axes=1),
    }
    if moved is not None:
        made["simulated"] = np.array([at_equal_damage(curve, moved) for curve in alone[:, 0]])
        edges = zip(alone[:, 0], bits[:, :, 0], strict=True)
        made["calibrated"] = np.array([at_calibrated_damage(*edge, moved) for edge in edges])
    found = []
    for name, values in made.items():
        apart = (values - measured)[:, 1:]
        both, bits_alone = (
            abs(part).mean(axis=1) for part in (apart[..., 1:].reshape(len(apart), -1), apart[..., 0])
        )
        bias = apart[..., 1:].mean(axis=(1, 2))
        found.append(
            Estimate(
                name,
                values[0],
                interval(both[1:], float(both[0])),
                interval(bias[1:], float(bias[0])),
                int(apart[0, :, 1:].size),
                interval(bits_alone[1:], float(bits_alone[0])) if name == "simulated" else None,
            )
        )
    return found


def at_equal_damage(curve: Floats, moved: Floats) -> Floats:
    """Return the share kept where eviction alone moves as much attention, float64[n_bits, n_ratios].

    Parameters
    ----------
    curve : float64[n_ratios]
        Share kept under eviction alone; taken as never rising.
    moved : float64[n_bits, n_ratios]
        Share of the attention moved, the cache as it is first.
    """
    return np.asarray(np.interp(moved, *_falling(curve, moved[0])))


def at_calibrated_damage(curve: Floats, alone: Floats, moved: Floats) -> Floats:
    """Return the share kept where eviction alone does as much damage, float64[n_bits, n_ratios].

    Parameters
    ----------
    curve : float64[n_ratios]
        Share kept under eviction alone; taken as never rising.
    alone : float64[n_bits]
        Share kept with the bits alone.
    moved : float64[n_bits, n_ratios]
        Share of the attention moved, the cache as it is first, and nothing removed.

    Notes
    -----
    Damage is counted in attention that eviction alone moves, m(r) at a ratio r. With m(b, r) moved by bits and ratio it
    is m(r) + c_b (m(b, r) - m(r)), and c_b is such that with the bits alone it is the least at which eviction keeps
    what they keep. Beyond the last ratio the curve goes on to nothing kept at 1.
    """
    at, falling = _falling(curve, moved[0])
    at, falling = np.append(at, max(1.0, float(at[-1]))), np.append(falling, 0.0)
    damage = np.array([_first_at(at, falling, one) for one in alone])
    rate = np.divide(damage, moved[:, 0], out=np.zeros_like(damage), where=moved[:, 0] > _LEAST)
    return np.asarray(np.interp(moved[0] + rate[:, None] * (moved - moved[0]), at, falling))


def _falling(curve: Floats, moved: Floats) -> tuple[Floats, Floats]:
    """Return the attention that eviction alone moves, rising, and the share kept there, taken as never rising."""
    by = np.argsort(moved, kind="stable")
    return moved[by], np.minimum.accumulate(curve[by])


def _first_at(at: Floats, falling: Floats, level: float) -> float:
    """Return where a curve that never rises is first at a level or below, by straight lines."""
    k = int(np.flatnonzero(falling <= level)[0])
    if k == 0:
        return float(at[0])
    share = (falling[k - 1] - level) / (falling[k - 1] - falling[k])
    return float(at[k - 1] + share * (at[k] - at[k - 1]))


def crossing(ratios: Floats, kept: Floats, level: float) -> float:
    """Return the ratio at which a curve first falls below a level, by straight lines; NaN where it does not.

    0 where it is below from the start.
    """
    below = np.flatnonzero(kept < level)
    if not len(below):
        return float("nan")
    k = int(below[0])
    if k == 0:
        return 0.0
    share = (kept[k - 1] - level) / (kept[k - 1] - kept[k])
    return float(ratios[k - 1] + share * (ratios[k] - ratios[k - 1]))
