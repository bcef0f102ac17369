"""Which cache rows survive at which compression ratio, and what is globally evicted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.choices import AXES

Levels = NDArray[np.int64]


def n_kept(n: int, ratio: float) -> int:
    """Return how many of `n` rows are kept at `ratio`: ``max(1, int(n * (1 - ratio)))``.

    This very float expression, with its rounding, is what kvpress evaluates: n_kept(300, .8) is 59.

    Raises
    ------
    ValueError
        If `ratio` is outside [0, 1).
    """
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio must be in [0, 1), got {ratio!r}")
    return max(1, int(n * (1 - ratio)))


def ratio_keeping(n: int, kept: int) -> float:
    """Return a ratio at which `n_kept` keeps exactly `kept` >= 1 of `n` rows; 0 where there are no more than that.

    That is 1 - kept / n, or the next smaller float that rounding does not take a row from.
    """
    if kept >= n:
        return 0.0
    ratio = 1 - kept / n
    while n_kept(n, ratio) < kept:
        ratio = math.nextafter(ratio, 0.0)
    return ratio


def check_ratio(ratio: object) -> float:
    """Return `ratio` as a float, or raise ValueError unless it lies in [0, 1)."""
    try:
        if isinstance(ratio, bool | np.bool_ | str | bytes):
            raise TypeError
        value = float(ratio)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"ratio must be a number in [0, 1), got {ratio!r}") from None
    if not 0 <= value < 1:
        raise ValueError(f"ratio must be in [0, 1), got {value!r}")
    return value


def check_ratios(ratios: float | Iterable[float]) -> list[float]:
    """Return one ratio or several as a list of floats in [0, 1); ValueError otherwise."""
    listed = [ratios] if np.ndim(ratios) == 0 else list(ratios)  # type: ignore[arg-type]
    if not listed:
        raise ValueError("at least one ratio is needed")
    return [check_ratio(ratio) for ratio in listed]


def eviction_ratios(n: int) -> NDArray[np.float64]:
    """Return the smallest ratios at which 1, 2, ..., n-1 of `n` rows are gone, float64[n-1].

    Exact for the float expression of `n_kept`: at the returned ratio the row is gone, at the
    next smaller float it is still there.
    """
    kept = n - np.arange(1, n)
    # Row k goes just above (k - 1) / n, for the first k at about 1e-16: no place to walk to float by float.
    # Positive floats sort as their bits do, so bisect those; `low` keeps the row, `high` lost it.
    low = np.zeros(n - 1, dtype=np.int64)
    high = np.full(n - 1, np.float64(1).view(np.int64))
    while np.any(high - low > 1):
        middle = (low + high) // 2
        gone = np.maximum(1, np.trunc(n * (1 - middle.view(np.float64)))) <= kept
        low, high = np.where(gone, low, middle), np.where(gone, middle, high)
    return high.view(np.float64)


@dataclass(frozen=True, eq=False)
class Survival:
    """The level at which each cache row of each (layer, KV head) dies.

    A slot is alive at ratio r exactly when ``drop > level(r)``.

    Parameters
    ----------
    drop : int[n_layers, n_heads, n_context]
        Level at which the slot dies, 1..max_level + 1 (max_level + 1: at no level). Ties allowed. 0: dead before
        anything is evicted, as rows outside of a sliding window are.
    steps : float[max_level], optional
        Sorted ratios at which the kept set changes, for policies whose kept set is no function of
        the kept number; then ``level(r) = searchsorted(steps, r, side="right")``. By default
        ``level(r) = n_context - n_kept(n_context, r)`` and max_level = n_context.

    Raises
    ------
    ValueError
        If `drop` is not an integer array of three axes with entries in range, or `steps` is not
        sorted in [0, 1).
    """

    drop: NDArray[Any]
    steps: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        drop = np.asarray(self.drop)
        if drop.ndim != 3 or drop.size == 0 or not np.issubdtype(drop.dtype, np.integer):
            got = f"{drop.dtype}{list(drop.shape)}"
            raise ValueError(f"drop must be a non-empty integer array [layers, heads, rows], got {got}")
        object.__setattr__(self, "drop", drop)
        if self.steps is not None:
            steps = np.asarray(self.steps, dtype=float)
            if steps.ndim != 1 or np.any(np.diff(steps) < 0) or not np.all((steps >= 0) & (steps < 1)):
                raise ValueError("steps must be a sorted list of ratios in [0, 1)")
            object.__setattr__(self, "steps", steps)
        low, high = int(drop.min()), int(drop.max())
        if low < 0 or high > self.max_level + 1:
            bad = low if low < 0 else high
            raise ValueError(f"drop entries must be in 0..max_level + 1 = {self.max_level + 1}, got {bad}")

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.drop.shape[0])

    @property
    def n_heads(self) -> int:
        """Number of KV heads a layer."""
        return int(self.drop.shape[1])

    @property
    def n_context(self) -> int:
        """Number of cache rows."""
        return int(self.drop.shape[2])

    @property
    def max_level(self) -> int:
        """Highest level any ratio can ask for."""
        return self.n_context if self.steps is None else len(self.steps)

    def level(self, ratio: float) -> int:
        """Return the level of a compression ratio in [0, 1)."""
        value = check_ratio(ratio)
        if self.steps is None:
            return self.n_context - n_kept(self.n_context, value)
        return int(np.searchsorted(self.steps, value, side="right"))

    def levels(self, ratios: float | Iterable[float]) -> Levels:
        """Return the levels of several ratios, int64[n_ratios]."""
        values = np.array(check_ratios(ratios))
        if self.steps is not None:
            return np.searchsorted(self.steps, values, side="right").astype(np.int64)
        # n_kept, entry by entry the same float operations.
        return self.n_context - np.maximum(1, (self.n_context * (1 - values)).astype(np.int64))

    def alive(self, ratio: float) -> NDArray[np.bool_]:
        """Return which slots survive at `ratio`, bool[n_layers, n_heads, n_context]."""
        return np.asarray(self.drop > self.level(ratio))

    def last(self, over: str = "model") -> NDArray[Any]:
        """Return the level at which a token's last slot dies.

        Parameters
        ----------
        over : {"model", "layer"}
            "model": the last of all n_layers * n_heads slots, shape [1, n_context].
            "layer": the last of the heads of each layer, shape [n_layers, n_context].
        """
        check_axis(over)
        per_layer = self.drop.max(axis=1)
        return per_layer if over == "layer" else np.asarray(per_layer.max(axis=0, keepdims=True))


def check_axis(over: str) -> None:
    """Raise ValueError unless `over` names a head axis."""
    if over not in AXES:
        raise ValueError(f"unknown head axis {over!r}; choose from: {', '.join(AXES)}")


def fraction_gone(last: NDArray[Any], levels: ArrayLike) -> NDArray[np.float64]:
    """Return the fraction of entries of `last` that are at most each level, float64[n_levels]."""
    flat = np.sort(last, axis=None)
    return np.searchsorted(flat, np.asarray(levels), side="right") / flat.size


def ger(
    survival: Survival, ratios: float | Iterable[float], tokens: ArrayLike, over: str = "model"
) -> NDArray[np.float64]:
    """Global Eviction Ratio: the fraction of `tokens` that no head keeps.

    Parameters
    ----------
    survival : Survival
        Level at which each slot dies.
    ratios : float or sequence of float
        Compression ratios in [0, 1).
    tokens : int[n]
        Positions of the answer tokens, in 0..n_context-1.
    over : {"model", "layer"}
        Gone from all n_layers * n_heads slots, or gone from all heads of a layer, averaged over layers.

    Returns
    -------
    float64[n_ratios]

    Raises
    ------
    ValueError
        If a ratio is outside [0, 1), a token outside the context, or the head axis unknown.

    Notes
    -----
    arXiv 2603.01426, definition of GER; the paper leaves the head axis open, so both are here.
    """
    chosen = check_positions(tokens, survival.n_context, "token")
    return fraction_gone(survival.last(over)[:, chosen], survival.levels(ratios))


def eviction_rate(
    survival: Survival, ratios: float | Iterable[float], over: str = "model"
) -> NDArray[np.float64]:
    """Eviction rate: the fraction of all context tokens that no head keeps, float64[n_ratios].

    The same as `ger` with every cache row as a token.
    """
    return fraction_gone(survival.last(over), survival.levels(ratios))


def check_positions(positions: ArrayLike, bound: int, what: str) -> NDArray[np.int64]:
    """Return positions as an int64 array; ValueError unless non-empty integers in 0..bound-1."""
    array = np.atleast_1d(np.asarray(positions))
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"at least one {what} is needed, as a list of positions")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{what} must be an integer position, got {array[0]!r}")
    outside = (array < 0) | (array >= bound)
    if outside.any():
        raise ValueError(f"{what} must be in 0..{bound - 1}, got {int(array[outside][0])}")
    return array.astype(np.int64)
