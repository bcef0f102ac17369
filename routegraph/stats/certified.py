"""Settings that are certified to do little harm, from counts of it: Learn then Test by fixed sequence.

Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test" (arXiv 2110.01052): a setting is certified where the
hypothesis that its risk is above the bound is rejected. Settings are tested one after the other, from the safest on,
each at the whole level, until one is not rejected: then the chance that any certified setting has a risk above the
bound is at most the level, however the risk goes over the settings.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless a number lies in (0, 1)."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must be in (0, 1), got {value}")


def p_values(counts: ArrayLike, trials: int, bound: float) -> NDArray[np.float64]:
    """Return exact p-values of "the risk is above the bound", float64[...].

    Parameters
    ----------
    counts : int[...]
        How many of the trials were harmed, at every setting.
    trials : int
        Independent trials: prompts, each of which is harmed or not.
    bound : float
        In (0, 1).

    Notes
    -----
    P(Bin(trials, bound) <= count): the chance of no more harm than was seen, were the risk as large as the bound.
    """
    check_share("bound", bound)
    return np.asarray(binom.cdf(np.asarray(counts), trials, bound))


def fixed_sequence(values: ArrayLike, level: float) -> int:
    """Return how many settings are certified: those before the first p-value above the level.

    Parameters
    ----------
    values : float[n_settings]
        p-values, the safest setting first; the order must not depend on the counts.
    level : float
        In (0, 1).
    """
    check_share("level", level)
    above = np.asarray(values) > level
    return int(np.argmax(above)) if above.any() else len(above)


def trials_needed(bound: float, level: float) -> int:
    """Return how many trials are needed for a setting that harms none of them to be certified."""
    check_share("bound", bound)
    check_share("level", level)
    return math.ceil(math.log(level) / math.log1p(-bound))


def holm(values: ArrayLike) -> NDArray[np.float64]:
    """Return p-values corrected for how many there are (Holm 1979), float64[n]."""
    raw = np.asarray(values, dtype=float)
    order = np.argsort(raw, kind="stable")
    stepped = np.maximum.accumulate(raw[order] * (len(raw) - np.arange(len(raw))))
    made = np.empty(len(raw))
    made[order] = np.minimum(1.0, stepped)
    return made


def sign_flips(differences: ArrayLike, draws: int = 9999, seed: int = 0) -> NDArray[np.float64]:
    """Return two-sided p-values of "paired differences are as often positive as negative", by random signs.

    Parameters
    ----------
    differences : float[..., n]
        Of n items; several comparisons of them share the signs.
    draws, seed : int
        Random signs, and their seed; a p-value is at least 1 / (draws + 1).

    Returns
    -------
    float64[...]
    """
    values = np.asarray(differences, dtype=float)
    n = values.shape[-1]
    seen = np.abs(values.mean(axis=-1))
    signs = np.random.default_rng(seed).integers(0, 2, (draws, n), dtype=np.int8) * 2 - 1
    drawn = np.abs(values @ signs.T.astype(float)) / n
    found = (1 + (drawn >= seen[..., None] * (1 - 1e-9)).sum(axis=-1)) / (draws + 1)
    return np.asarray(np.where(seen == 0, 1.0, found))
