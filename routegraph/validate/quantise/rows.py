"""A context's cache at fewer bits: what is kept of it is rounded, and what reads it sees the rounded numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.quantise.latent import rounded_latent
from routegraph.validate.quantise.precision import Precision
from routegraph.validate.quantise.rotation import Rotation
from routegraph.validate.quantise.uniform import rounded


@dataclass(frozen=True, eq=False)
class Rows:
    """Keys and values of a layer as a cache has them, [n_variants or 1, n_kv_heads, n_context, head_dim] each."""

    keys: Any
    values: Any


@dataclass(frozen=True, eq=False)
class Rounded:
    """The layers of a cache at fewer bits, to be read in the place of the cache itself."""

    layers: tuple[Rows, ...]


def rounded_keys(keys: Any, precision: Precision, rotation: Rotation | None = None) -> Any:
    """Return keys as they are read at a precision.

    Parameters
    ----------
    keys : float tensor [..., n_rows, head_dim]
        Of all rows that a head keeps, in their order; as the cache holds them, rotated where the model rotates.
    precision : Precision
    rotation : Rotation, optional
        Of these rows: latent channels are those of keys without positions. None: they have none, or it does not matter.

    Raises
    ------
    ValueError
        If they hold what is not finite, or what is too large for 16-bit scales.
    """
    n = keys.shape[-2]
    n_rounded = n - precision.full_keys(n)
    if precision.layout.latent:
        return _in_latent(keys, n_rounded, precision, rotation)
    dim = -2 if precision.layout.by_channel else -1
    return _rounded_first(keys, n_rounded, precision.keys, dim, precision)


def rounded_values(values: Any, precision: Precision, _rotation: Rotation | None = None) -> Any:
    """Return values as they are read at a precision; as `rounded_keys`, with a group in each row."""
    n = values.shape[-2]
    return _rounded_first(values, n - precision.full_values(n), precision.values, -1, precision)


def rounded_cache(
    cache: Any,
    precision: Precision,
    kept: NDArray[np.bool_],
    rotations: Sequence[Rotation | None] | None = None,
) -> Rounded:
    """Return a cache at fewer bits, as each of some variants reads it.

    The rows that a variant keeps of a head stand one after the other, as they would once the others are removed, and
    are rounded; what it does not keep is left as it is, for nothing reads it.

    Parameters
    ----------
    cache : cache
        Of one context, as `routegraph.validate.presses.prefill.prefill` returns it; it is not changed.
    precision : Precision
    kept : bool[n_variants, n_layers, n_kv_heads, n_context]
    rotations : sequence of Rotation or None, optional
        Of every layer, as `rotations_of` tells them; a precision of latent channels needs them (`Layout.latent`).

    Returns
    -------
    Rounded
        With n_variants first in every layer, or 1 where all variants read the same (`Precision.by_row`).

    Raises
    ------
    ValueError
        As `rounded_keys`; if rotations are missing where they are needed.
    """
    if precision.layout.latent and rotations is None:
        raise ValueError(
            f"bits {precision.name!r} round keys without positions: tell the rotations of the layers"
        )
    if precision.by_row:
        return Rounded(
            tuple(
                Rows(rounded_keys(layer.keys, precision), rounded_values(layer.values, precision))
                for layer in cache.layers
            )
        )
    return Rounded(
        tuple(
            Rows(
                *(
                    _rounded_kept(part, kept[:, number], precision, how, rotation)
                    for part, how in ((layer.keys, rounded_keys), (layer.values, rounded_values))
                )
            )
            for number, (layer, rotation) in enumerate(
                zip(cache.layers, rotations or [None] * len(cache.layers), strict=True)
            )
        )
    )


def _rounded_kept(
    rows: Any, kept: NDArray[np.bool_], precision: Precision, how: Any, rotation: Rotation | None
) -> Any:
    """Round what is kept of rows [1, n_heads, n, d], by kept [n_variants, n_heads, n]; heads of one count at a time."""
    import torch

    n_variants, n_heads, n = kept.shape
    made = rows.expand(n_variants, *rows.shape[1:]).reshape(n_variants * n_heads, n, -1).clone()
    flat = kept.reshape(-1, n)
    counts = flat.sum(axis=1)
    for count in np.unique(counts[counts > 0]):
        heads = np.flatnonzero(counts == count)
        places = torch.from_numpy(np.nonzero(flat[heads])[1].reshape(len(heads), count)).to(made.device)
        which = torch.from_numpy(heads).to(made.device)[:, None]
        own = None if rotation is None else rotation.at(places)
        made[which, places] = how(made[which, places], precision, own)
    return made.reshape(n_variants, n_heads, n, -1)


def _in_latent(keys: Any, n_rounded: int, precision: Precision, rotation: Rotation | None) -> Any:
    """Return keys of which the first ones are rounded in latent channels, without their positions."""
    import torch

    first = keys[..., :n_rounded, :]
    if rotation is None:
        made = rounded_latent(first, precision.schedule, precision.group)
    else:
        own = Rotation(rotation.cos[..., :n_rounded, :], rotation.sin[..., :n_rounded, :])
        made = own.turned(rounded_latent(own.back(first.double()), precision.schedule, precision.group))
    return torch.cat([made.to(keys.dtype), keys[..., n_rounded:, :]], dim=-2)


def _rounded_first(rows: Any, n_rounded: int, bits: int, dim: int, precision: Precision) -> Any:
    """Return rows of which the first ones are rounded."""
    import torch

    first = rounded(rows[..., :n_rounded, :], bits, dim, precision.group, precision.layout.symmetric)
    return torch.cat([first, rows[..., n_rounded:, :]], dim=-2)
