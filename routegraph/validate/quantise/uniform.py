"""Uniform quantisation: numbers rounded to a grid of 2^b points that a group shares, with 16-bit scales.

With an offset (min-max, asymmetric): z = min, s = (max - min) / (2^b - 1), code = round((x - z) / s), x' = s code + z,
as KIVI (arXiv 2402.02750, section 3) and quanto do. Without (symmetric): s = max |x| / (2^(b-1) - 1), code =
round(x / s), x' = s code. Halves are rounded to even. Scales and offsets are float16, as they are stored: the offset
rounded down and the scale up, so that the grid covers the group and |x - x'| <= s / 2 holds all the same, up to the
rounding of float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Codes:
    """Groups of numbers as they are stored.

    Attributes
    ----------
    codes : int16 tensor
        0 to 2^b - 1 with an offset, else -(2^(b-1) - 1) to 2^(b-1) - 1; of the shape of the numbers.
    scale : float16 tensor
        At least 0; of length 1 along the groups' axis.
    offset : float16 tensor or None
        None: symmetric.
    """

    codes: Any
    scale: Any
    offset: Any = None

    def numbers(self) -> Any:
        """Return the numbers that the codes stand for, a float32 tensor."""
        found = self.codes.float() * self.scale.float()
        return found if self.offset is None else found + self.offset.float()


def encode(numbers: Any, bits: int, dim: int, symmetric: bool = False) -> Codes:
    """Round numbers, of which those along one axis are a group.

    Parameters
    ----------
    numbers : float tensor
        Of any shape, not empty along `dim`.
    bits : int
        2 to 8.
    dim : int
    symmetric : bool
        Whether there is no offset, and 0 stays 0.

    Raises
    ------
    ValueError
        If a number is not finite, or so large that its scale or offset is beyond float16.
    """
    import torch

    check_finite(numbers)
    x = numbers.float()
    if symmetric:
        offset, top = None, 2 ** (bits - 1) - 1
        scale = _half_above(x.abs().amax(dim, keepdim=True) / top)
        shifted, least = x, -top
    else:
        top, least = 2**bits - 1, 0
        offset = -_half_above(-x.amin(dim, keepdim=True))
        shifted = x - offset.float()
        scale = _half_above(shifted.amax(dim, keepdim=True) / top)
    if not bool(torch.isfinite(scale).all()) or (
        offset is not None and not bool(torch.isfinite(offset).all())
    ):
        raise ValueError("the cache holds numbers beyond 65504, for which there is no 16-bit scale or offset")
    step = scale.float()
    steps = torch.where(step > 0, shifted / step, torch.zeros_like(shifted))
    return Codes(steps.round().clamp(least, top).to(torch.int16), scale, offset)


def rounded(numbers: Any, bits: int, dim: int, group: int = 0, symmetric: bool = False) -> Any:
    """Return numbers as they are read after quantisation, in their own type.

    Parameters
    ----------
    numbers : float tensor
        Of any shape; may be empty.
    bits : int
        2 to 8.
    dim : int
        Axis that is cut into groups.
    group : int
        Their length; the last one is shorter where the axis is no multiple. 0: the whole axis.
    symmetric : bool
        Whether there is no offset, and 0 stays 0.

    Returns
    -------
    tensor
        Shape and type of `numbers`; within half a step of them, up to the rounding of the type.

    Raises
    ------
    ValueError
        As `encode`.
    """
    import torch

    if not numbers.numel():
        return numbers
    dim = dim % numbers.ndim
    n = numbers.shape[dim]
    size = min(group or n, n)
    whole = n - n % size
    parts = [numbers.narrow(dim, 0, whole).unflatten(dim, (-1, size))]
    if whole < n:
        parts.append(numbers.narrow(dim, whole, n - whole).unsqueeze(dim))
    done = [encode(part, bits, dim + 1, symmetric).numbers().flatten(dim, dim + 1) for part in parts]
    return torch.cat(done, dim).to(numbers.dtype)


def check_finite(numbers: Any) -> None:
    """Raise ValueError where a number of a float tensor is not finite."""
    import torch

    if not bool(torch.isfinite(numbers).all()):
        raise ValueError(f"the cache holds numbers that are not finite in {numbers.dtype}; use float32")


def _half_above(x: Any) -> Any:
    """Return the least float16 that is not below each float32, infinity beyond 65504."""
    import torch

    near = x.to(torch.float16)
    pattern = near.view(
        torch.int16
    )  # of positive numbers it grows with the number, of negative ones it falls
    after = torch.where(pattern >= 0, pattern + 1, torch.where(near == 0, 1, pattern - 1)).to(torch.int16)
    return torch.where(near.float() < x, after.view(torch.float16), near)
