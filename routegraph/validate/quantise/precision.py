"""What a precision's name means: how many bits keys and values have, and which of them share a scale.

A text is a layout, the bits, and what else is not as usual: "4", "k4v2", "kivi2", "kivik4v2:residual=32", "token8",
"svdq:schedule=4-4-2-0-0-0-0-0".
Layouts stand in `LAYOUTS`, and nowhere else. Nothing here loads torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

#: Bits that a key or a value may have.
BITS = (2, 3, 4, 8)
#: Bits of a latent channel that is stored as it is.
WHOLE = 16


@dataclass(frozen=True)
class Layout:
    """Which numbers of a head's cache share a scale.

    Attributes
    ----------
    prefix : str
        What stands before the bits in a precision's name.
    by_channel : bool
        Whether a group of keys is one channel of some consecutive rows; else some channels of one row, as values are.
    latent : bool
        Whether a group of keys is some consecutive rows of a latent channel, see `routegraph.validate.quantise.latent`.
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
    latent: bool = False


#: Every layout by its prefix.
LAYOUTS = {
    layout.prefix: layout
    for layout in (
        Layout("", by_channel=False, symmetric=False, group=64, residual=0),
        Layout("kivi", by_channel=True, symmetric=False, group=32, residual=128),
        Layout("token", by_channel=False, symmetric=True, group=0, residual=0, bits=(8,)),
        Layout("svdq", by_channel=False, symmetric=False, group=0, residual=0, latent=True),
    )
}
_TEXT = re.compile(
    r"(?P<prefix>[a-z]*?)(?:(?P<both>[1-9])|k(?P<keys>[1-9])v(?P<values>[1-9]))(?::(?P<more>.*))?"
)
_LATENT = re.compile(r"(?P<prefix>svdq)(?::(?P<more>.*))?")
#: Bits of equal parts of the latent channels, unless said otherwise, and of the values beside them.
SCHEDULE, VALUES = (8, 4, 4, 2, 0, 0, 0, 0), 4
CHOICES = (
    "2, 3, 4, 8, kivi2, kivi3, kivi4, kivi8, token8, or other bits for keys than for values, as in k4v2 or kivik4v2; "
    "each may end in :group=N,residual=N; svdq, which may end in :schedule=8-4-4-2-0-0-0-0,values=N,group=N,residual=N"
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
    schedule : tuple of int
        Of a layout of latent channels: bits of equal parts of them, from the largest singular values on, never rising;
        0: left out, 16: as they are. `keys` is the first of them. Empty elsewhere.

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
    schedule: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for bits in (self.keys, self.values):
            if bits not in self.layout.bits and not self.layout.latent:
                raise ValueError(f"{self.layout.prefix}{bits} is none of the choices")
        if self.layout.latent:
            _check_schedule(self.schedule, self.values)
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
        if found := _LATENT.fullmatch(text):
            return cls._latent(text, found["more"])
        found = _TEXT.fullmatch(text)
        if not found or found["prefix"] not in LAYOUTS or LAYOUTS[found["prefix"]].latent:
            raise ValueError(f"unknown bits {text!r}; choose from: {CHOICES}")
        layout = LAYOUTS[found["prefix"]]
        keys, values = (int(found[one] or found["both"]) for one in ("keys", "values"))
        more = {"group": layout.group, "residual": layout.residual}
        for name, value in _parts(text, found["more"], {"group": "N", "residual": "N"}):
            more[name] = int(value)
        if not {keys, values} <= set(layout.bits):
            raise ValueError(f"unknown bits {text!r}; choose from: {CHOICES}")
        try:
            return cls(layout, keys, values, more["group"], more["residual"])
        except ValueError as error:
            raise ValueError(f"bits {text!r}: {error}") from None

    @classmethod
    def _latent(cls, text: str, more: str | None) -> Precision:
        layout, told = LAYOUTS["svdq"], {"schedule": "B-B-...", "values": "N", "group": "N", "residual": "N"}
        given = dict(_parts(text, more, told))
        schedule = tuple(map(int, given.pop("schedule", _dashed(SCHEDULE)).split("-")))
        usual = {"values": VALUES, "group": layout.group, "residual": layout.residual}
        values, group, residual = (int(given.get(name, one)) for name, one in usual.items())
        try:
            return cls(layout, schedule[0], values, group, residual, schedule)
        except ValueError as error:
            raise ValueError(f"bits {text!r}: {error}") from None

    @property
    def by_row(self) -> bool:
        """Whether a row is rounded alike whichever others are kept."""
        return not (self.layout.by_channel or self.layout.latent or self.residual)

    @property
    def name(self) -> str:
        """The shortest text that means it."""
        usual = replace(self, group=self.layout.group, residual=self.layout.residual)
        if self.layout.latent:
            usual = replace(usual, keys=SCHEDULE[0], schedule=SCHEDULE, values=VALUES)
        more = [own for own, other in zip(self._told, usual._told, strict=True) if own != other]
        return self._bits + (f":{','.join(more)}" if more else "")

    @property
    def text(self) -> str:
        """The text that means it whatever is usual: with its group and its residual."""
        return f"{self._bits}:{','.join(self._told)}"

    @property
    def words(self) -> str:
        """What it means, in words."""
        if self.layout.latent:
            return self._latent_words
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
    def _told(self) -> list[str]:
        own = [f"schedule={_dashed(self.schedule)}", f"values={self.values}"] if self.layout.latent else []
        return [*own, f"group={self.group}", f"residual={self.residual}"]

    @property
    def _latent_words(self) -> str:
        rows = f"{self.group} rows" if self.group else "all rows"
        channels = f"{self.group} channels" if self.group else "all channels"
        stays = f"; the last {self.residual} rows as they are" if self.residual else ""
        return (
            f"keys without positions in the basis of their singular vectors, {_dashed(self.schedule)} bits for equal "
            f"parts of the latent channels, a scale and an offset for {rows} of a latent channel; values of "
            f"{self.values} bits, a scale and an offset for {channels} of a row{stays}"
        )

    @property
    def _bits(self) -> str:
        if self.layout.latent:
            return self.layout.prefix
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


def _parts(text: str, more: str | None, known: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what is told after the colon of a text, of names with the form of their values."""
    forms = {"N": r"\d{1,9}", "B-B-...": r"\d{1,2}(-\d{1,2})*"}
    for part in more.split(",") if more is not None else ():
        name, _, value = part.partition("=")
        if name not in known or not re.fullmatch(forms[known[name]], value):
            choices = ", ".join(f"{one}={form}" for one, form in known.items())
            raise ValueError(f"unknown {part!r} in bits {text!r}; choose from: {choices}")
        yield name, value


def _check_schedule(schedule: tuple[int, ...], values: int) -> None:
    if not schedule or not schedule[0] or not set(schedule) <= {0, *BITS, WHOLE}:
        raise ValueError(
            f"schedule {_dashed(schedule)} must begin with a number of bits; each is 0 (left out), 2, 3, 4, 8 or 16"
        )
    if list(schedule) != sorted(schedule, reverse=True):
        raise ValueError(f"schedule {_dashed(schedule)} must not rise: singular values fall")
    if values not in BITS:
        raise ValueError(f"values {values} must be 2, 3, 4 or 8 bits")


def _dashed(schedule: tuple[int, ...]) -> str:
    return "-".join(map(str, schedule))
