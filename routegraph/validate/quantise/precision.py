"""What a precision's name means: how many bits keys and values have, and which of them share a scale.

A text is a layout, the bits, and what else is not as usual: "4", "k4v2", "kivi2", "kivik4v2:residual=32", "token8".
Layouts stand in `LAYOUTS`, and nowhere else. Nothing here loads torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

#: Bits that a key or a value may have.
BITS = (2, 3, 4, 8)


@dataclass(frozen=True)
class Layout:
    """Which numbers of a head's cache share a scale.

    Attributes
    ----------
    prefix : str
        What stands before the bits in a precision's name.
    by_channel : bool
        Whether a group of keys is one channel of some consecutive rows; else some channels of one row, as values are.
    symmetric : bool
        Whether there is a scale alone, with zero kept as it is; else a scale and an offset, the least of the group.
    group, residual : int
        What they are unless said otherwise; see `Precision`.
    bits : tuple of int
        Of which numbers of bits.
    """

    prefix: str
    by_channel: bool
    symmetric: bool
    group: int
    residual: int
    bits: tuple[int, ...] = BITS


#: Every layout by its prefix.
LAYOUTS = {
    layout.prefix: layout
    for layout in (
        Layout("", by_channel=False, symmetric=False, group=64, residual=0),
        Layout("kivi", by_channel=True, symmetric=False, group=32, residual=128),
        Layout("token", by_channel=False, symmetric=True, group=0, residual=0, bits=(8,)),
    )
}
_TEXT = re.compile(
    r"(?P<prefix>[a-z]*?)(?:(?P<both>[1-9])|k(?P<keys>[1-9])v(?P<values>[1-9]))(?::(?P<more>.*))?"
)
CHOICES = (
    "2, 3, 4, 8, kivi2, kivi3, kivi4, kivi8, token8, or other bits for keys than for values, as in k4v2 or kivik4v2; "
    "each may end in :group=N,residual=N"
)


@dataclass(frozen=True)
class Precision:
    """How a cache is rounded.

    Attributes
    ----------
    layout : Layout
    keys, values : int
        Bits of each number, 2, 3, 4 or 8.
    group : int
        Numbers that share a scale: rows of a channel for keys of a layout by channel, else channels of a row. The last
        group of an axis is shorter where the axis is no multiple; 0: the whole axis.
    residual : int
        R, the rows that stay as they are: the last R values, and of the keys as many; by channel the last n mod R of n
        keys, since keys are rounded R at a time (KIVI, Algorithm 1). 0: none.

    Raises
    ------
    ValueError
        If a number is out of range, or R is no multiple of the group where keys are rounded by channel.

    References
    ----------
    Z. Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", arXiv 2402.02750: keys by channel,
    values by token, groups of 32, R = 128.
    """

    layout: Layout
    keys: int
    values: int
    group: int
    residual: int

    def __post_init__(self) -> None:
        for bits in (self.keys, self.values):
            if bits not in self.layout.bits:
                raise ValueError(f"{self.layout.prefix}{bits} is none of the choices")
        if min(self.group, self.residual) < 0:
            raise ValueError("group and residual must be at least 0")
        if self.layout.by_channel and self.residual and (not self.group or self.residual % self.group):
            raise ValueError(
                f"residual {self.residual} must be a multiple of group {self.group}: keys are rounded so many rows at "
                "a time"
            )

    @classmethod
    def named(cls, text: str) -> Precision:
        """Return the precision that a text means.

        Parameters
        ----------
        text : str
            Such as "4", "k4v2", "kivi4", "kivi2:group=16,residual=64" or "token8".

        Raises
        ------
        ValueError
            Naming the text and the choices, if it means none.
        """
        found = _TEXT.fullmatch(text)
        if not found or found["prefix"] not in LAYOUTS:
            raise ValueError(f"unknown bits {text!r}; choose from: {CHOICES}")
        layout = LAYOUTS[found["prefix"]]
        keys, values = (int(found[one] or found["both"]) for one in ("keys", "values"))
        more = {"group": layout.group, "residual": layout.residual}
        for part in (found["more"] or "").split(",") if found["more"] is not None else ():
            name, _, value = part.partition("=")
            if name not in more or not re.fullmatch(r"\d{1,9}", value):
                raise ValueError(f"unknown {part!r} in bits {text!r}; choose from: group=N, residual=N")
            more[name] = int(value)
        if not {keys, values} <= set(layout.bits):
            raise ValueError(f"unknown bits {text!r}; choose from: {CHOICES}")
        try:
            return cls(layout, keys, values, **more)
        except ValueError as error:
            raise ValueError(f"bits {text!r}: {error}") from None

    @property
    def by_row(self) -> bool:
        """Whether a row is rounded alike whichever others are kept."""
        return not self.layout.by_channel and not self.residual

    @property
    def name(self) -> str:
        """The shortest text that means it."""
        usual = replace(self, group=self.layout.group, residual=self.layout.residual)
        more = [
            f"{one}={getattr(self, one)}"
            for one in ("group", "residual")
            if getattr(self, one) != getattr(usual, one)
        ]
        return self._bits + (f":{','.join(more)}" if more else "")

    @property
    def text(self) -> str:
        """The text that means it whatever is usual: with its group and its residual."""
        return f"{self._bits}:group={self.group},residual={self.residual}"

    @property
    def words(self) -> str:
        """What it means, in words."""
        if self.layout.symmetric:
            scales = "one scale for " + (
                f"{self.group} channels of a row" if self.group else "a row of a head"
            )
        else:
            channels = f"{self.group} channels" if self.group else "all channels"
            rows = f"{self.group} rows" if self.group else "all rows"
            scales = f"a scale and an offset for {channels} of a row"
            if self.layout.by_channel:
                scales = f"a scale and an offset for {rows} of a channel of keys, and for {channels} of a row of values"
        bits = (
            f"keys and values of {self.keys} bits"
            if self.keys == self.values
            else f"keys of {self.keys} bits and values of {self.values}"
        )
        rest = ""
        if self.residual and self.layout.by_channel:
            rest = (
                f"; the last {self.residual} values and the last n mod {self.residual} of n keys as they are"
            )
        elif self.residual:
            rest = f"; the last {self.residual} rows as they are"
        return f"{bits}, {scales}{rest}"

    @property
    def _bits(self) -> str:
        told = f"{self.keys}" if self.keys == self.values else f"k{self.keys}v{self.values}"
        return self.layout.prefix + told

    def full_keys(self, n: int) -> int:
        """Return how many of `n` rows of keys stay as they are, the last ones."""
        if not self.residual:
            return 0
        return n % self.residual if self.layout.by_channel else min(n, self.residual)

    def full_values(self, n: int) -> int:
        """Return how many of `n` rows of values stay as they are, the last ones."""
        return min(n, self.residual)
