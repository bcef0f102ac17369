"""How many bytes a cache of fewer bits takes, packed: codes, scales, offsets, and rows that stay as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.validate.quantise.latent import channel_bits
from routegraph.validate.quantise.precision import WHOLE, Precision

#: Bits of a scale, an offset, and a number that stays as it is.
FULL = 16


def quantised_bytes(n_rows: ArrayLike, head_dim: int, precision: Precision | None = None) -> int:
    """Return the bytes of a cache: keys and values of every head.

    The codes of a group are packed one after the other and fill up its last byte; each group has a scale of 16 bits
    and, unless it is symmetric, an offset of 16. Latent channels come with the mean and the basis of their head, 16
    bits a number, which weigh much where rows are few. Numbers that are not rounded take 16 bits, whatever type a
    model was run in. Where rows were, positions and tables of pages, is not counted: it is the same at every
    precision.

    Parameters
    ----------
    n_rows : int[...]
        Rows that each (layer, KV head) keeps.
    head_dim : int
        Width of a head, at least 1.
    precision : Precision, optional
        None: 16 bits for every number.

    Raises
    ------
    ValueError
        If a number of rows is negative, or the width below 1.
    """
    rows = np.asarray(n_rows, dtype=np.int64)
    if head_dim < 1 or (rows < 0).any():
        raise ValueError(
            f"a head needs a width of at least 1 and no fewer than 0 rows, got {head_dim} and {rows.tolist()}"
        )
    if precision is None:
        return int(2 * rows.sum() * head_dim * FULL // 8)
    counts, times = np.unique(rows, return_counts=True)
    return int(sum(k * _head(int(n), head_dim, precision) for n, k in zip(counts, times, strict=True)))


def bytes_of(kept: NDArray[np.bool_], head_dim: int, precision: Precision | None = None) -> list[int]:
    """Return the bytes of the cache of every variant, of which bool[n_variants, n_layers, n_kv_heads, n] is kept."""
    return [quantised_bytes(rows, head_dim, precision) for rows in kept.sum(axis=-1)]


def key_bytes(n: int, width: int, precision: Precision) -> int:
    """Return the bytes of the keys of one head of `n` rows."""
    full = precision.full_keys(n)
    rounded = n - full
    if precision.layout.latent:
        coded = _latent(rounded, width, precision)
    elif precision.layout.by_channel:
        coded = width * _axis(rounded, precision.keys, precision)
    else:
        coded = rounded * _axis(width, precision.keys, precision)
    return coded + full * width * FULL // 8


def _head(n: int, width: int, precision: Precision) -> int:
    """Return the bytes of the keys and values of one head of `n` rows."""
    full = precision.full_values(n)
    coded = (n - full) * _axis(width, precision.values, precision)
    return key_bytes(n, width, precision) + coded + full * width * FULL // 8


def _latent(n: int, width: int, precision: Precision) -> int:
    """Return the bytes of `n` keys in latent channels: the mean, the basis, and the channels."""
    bits = [one for one in channel_bits(precision.schedule, width) if one]
    if not n:
        return 0
    channels = sum(n * FULL // 8 if one == WHOLE else _axis(n, one, precision) for one in bits)
    return (1 + len(bits)) * width * FULL // 8 + channels


def _axis(length: int, bits: int, precision: Precision) -> int:
    """Return the bytes of an axis that is cut into groups."""
    if not length:
        return 0
    size = min(precision.group or length, length)
    beside = FULL // 8 * (1 if precision.layout.symmetric else 2)
    whole, rest = divmod(length, size)
    return whole * (-(-size * bits // 8) + beside) + ((-(-rest * bits // 8) + beside) if rest else 0)
