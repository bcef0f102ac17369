"""Keys in the basis of their own singular vectors, with bits that fall with the singular values (SVDq).

The keys K [n, d] of a head, without positions, are centred by their mean over the rows; of K - mean = U S V^T the
columns of V are the basis, and (K - mean) V are n rows of d *latent channels*, whose variances are S^2 / n and fall
fast. Each channel is rounded by itself, the first ones to many bits, the last ones left out, and read back as
latent V^T + mean. Mean and basis are stored too, with 16 bits a number.

References
----------
Y. Hong et al., "SVDq: 1.25-bit and 410x Key Cache Compression for LLM Attention", arXiv 2502.15304.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from routegraph.validate.quantise.precision import WHOLE
from routegraph.validate.quantise.uniform import check_finite, rounded


@dataclass(frozen=True, eq=False)
class Basis:
    """What latent channels are read by, as it is stored.

    Attributes
    ----------
    mean : float16 tensor [..., 1, head_dim]
    vectors : float16 tensor [..., head_dim, n_channels]
        Singular vectors by falling singular value, the largest entry of each positive.
    """

    mean: Any
    vectors: Any

    def latent(self, keys: Any) -> Any:
        """Return the latent channels of keys, float64 [..., n_rows, n_channels]."""
        return (keys.double() - self.mean.double()) @ self.vectors.double()

    def keys(self, latent: Any) -> Any:
        """Return what latent channels stand for, float64 [..., n_rows, head_dim]."""
        return latent.double() @ self.vectors.double().transpose(-1, -2) + self.mean.double()


def channel_bits(schedule: Sequence[int], head_dim: int) -> list[int]:
    """Return the bits of every latent channel: channel c of d has those of part floor(c * parts / d)."""
    return [schedule[channel * len(schedule) // head_dim] for channel in range(head_dim)]


def basis_of(keys: Any, n_channels: int) -> Basis:
    """Return mean and first singular vectors of keys [..., n_rows, head_dim], at least one row.

    Raises
    ------
    ValueError
        If they hold what is not finite, or whose mean is beyond float16.
    """
    import torch

    check_finite(keys)
    x = keys.double()
    mean = x.mean(dim=-2, keepdim=True).half()
    if not bool(torch.isfinite(mean).all()):
        raise ValueError("the cache holds numbers beyond 65504, for which there is no 16-bit mean")
    centred = x - mean.double()
    vectors = torch.linalg.eigh(centred.transpose(-1, -2) @ centred).eigenvectors.flip(-1)[..., :n_channels]
    largest = vectors.gather(-2, vectors.abs().argmax(dim=-2, keepdim=True))
    return Basis(mean, (vectors * largest.sign()).half())


def rounded_latent(keys: Any, schedule: Sequence[int], group: int = 0) -> Any:
    """Return keys as they are read from rounded latent channels, in their own type.

    Parameters
    ----------
    keys : float tensor [..., n_rows, head_dim]
        Without positions; may have no rows.
    schedule : sequence of int
        Bits of equal parts of the latent channels, never rising; 0: left out, 16: as it is.
    group : int
        Rows of a channel that share a scale and an offset; 0: all of them.

    Raises
    ------
    ValueError
        As `basis_of` and `uniform.encode`.
    """
    import torch

    if not keys.numel():
        return keys
    runs = [(bits, len(list(run))) for bits, run in groupby(channel_bits(schedule, keys.shape[-1])) if bits]
    basis = basis_of(keys, sum(count for _, count in runs))
    parts = basis.latent(keys).float().split([count for _, count in runs], dim=-1)
    made = [
        part.half() if bits == WHOLE else rounded(part, bits, -2, group)
        for part, (bits, _) in zip(parts, runs, strict=True)
    ]
    return basis.keys(torch.cat([part.double() for part in made], dim=-1)).to(keys.dtype)
