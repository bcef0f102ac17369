"""The numbers of a diagram: folders of `measure` that differ in bits alone, put on one grid."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.survival import n_kept
from routegraph.validate.measure.result import Measured
from routegraph.validate.quantise.precision import WHOLE, Precision

Floats = NDArray[np.float64]

#: Settings in which folders of one diagram may differ.
FREE = frozenset(("bits", "ratios", "policies", "metrics", "carriers", "eps"))


@dataclass(frozen=True, eq=False)
class Grid:
    """Answers of one model and policy at every precision and ratio.

    Attributes
    ----------
    settings : mapping
        That all folders share.
    policy : str
    ids : tuple of str
    bits : tuple of str
        Names of precisions, that of the most bytes first, which is "" for the cache as it is.
    ratios : float64[n_ratios]
        Sorted, 0 first: those that all folders have.
    before : bool[n_items]
        Right with nothing removed and the cache as it is.
    right : bool[n_items, n_bits, n_ratios]
    bytes : float64[n_bits, n_ratios]
        Of the context's cache, of 1 with all rows at 16 bits; mean over the items.
    """

    settings: Mapping[str, Any]
    policy: str
    ids: tuple[str, ...]
    bits: tuple[str, ...]
    ratios: Floats
    before: NDArray[np.bool_]
    right: NDArray[np.bool_]
    bytes: Floats

    @property
    def held(self) -> NDArray[np.bool_]:
        """Which of the items right before are still right, bool[n_before, n_bits, n_ratios]."""
        return self.right[self.before]

    @property
    def kept(self) -> Floats:
        """Share of the answers right before that are still right, float64[n_bits, n_ratios]."""
        return np.asarray(self.held.mean(axis=0))

    @property
    def per_number(self) -> Floats:
        """Bits for each number that is kept, scales and all else counted, float64[n_bits, n_ratios]."""
        return WHOLE * self.bytes / self.bytes[:1]

    @property
    def layouts(self) -> list[str]:
        """Layout of each precision, "" for the plain one and for the cache as it is."""
        return [Precision.named(one).layout.prefix if one else "" for one in self.bits]


def name_of(bits: str) -> str:
    """Return what a page calls a precision."""
    return bits or "16, as it is"


def read_grid(folders: Sequence[str | os.PathLike[str]], policy: str | None = None) -> Grid:
    """Put folders that `measure` wrote on one grid.

    Parameters
    ----------
    folders : sequence of path
        Of one model, asked the same prompts in the same way; one without bits, and at least one with.
    policy : str, optional
        Which policy; by default the only one that all of them have.

    Raises
    ------
    ValueError
        If a folder is none of `measure`; if folders do not belong together, or nothing is to be drawn of them.
    """
    loaded = {Path(folder).name: Measured.load(folder) for folder in folders}
    if len(loaded) < len(folders):
        raise ValueError("two of the folders have one name; rename one, or name each once")
    names = {name: Precision.named(one.bits).name if one.bits else "" for name, one in loaded.items()}
    _check_together(loaded, names)
    chosen = _policy(loaded, policy)
    whole = next(one for name, one in loaded.items() if not names[name])
    ratios = sorted(set.intersection(*(set(one.settings["ratios"]) for one in loaded.values())))
    if len(ratios) < 2:
        raise ValueError("the folders share no ratio above 0; measure the same ratios with and without bits")
    tables = []
    for name, one in loaded.items():
        at = [int(np.flatnonzero(one.ratios == ratio)[-1]) for ratio in ratios]
        place = one.place_of(chosen)
        taken = one.bytes[place, at] if one.bits else _rows_left(whole, ratios)
        order = np.argsort(one.ids, kind="stable")
        tables.append((names[name], one.right[order][:, place][:, at], taken))
    tables.sort(key=lambda told: -told[2][0])
    order = np.argsort(whole.ids, kind="stable")
    before = whole.right[order, 0, 0]
    if not before.any():
        raise ValueError(
            "no answer is right with nothing removed and the cache as it is: nothing can be lost"
        )
    return Grid(
        settings={name: value for name, value in whole.settings.items() if name not in FREE},
        policy=chosen,
        ids=tuple(whole.ids[k] for k in order),
        bits=tuple(name for name, _, _ in tables),
        ratios=np.array(ratios),
        before=before,
        right=np.stack([right for _, right, _ in tables], axis=1),
        bytes=np.array([taken for _, _, taken in tables]),
    )


def _check_together(loaded: Mapping[str, Measured], names: Mapping[str, str]) -> None:
    """Raise ValueError where folders do not make up one diagram."""
    whole = [name for name in loaded if not names[name]]
    if len(whole) == len(loaded):
        raise ValueError("none of the folders was measured with bits; measure the same again with --bits 4")
    if not whole:
        raise ValueError("all of the folders were measured with bits; measure the same again without --bits")
    for one_name, two_name in combinations(loaded, 2):
        if names[one_name] == names[two_name]:
            what = f"bits {names[one_name]!r}" if names[one_name] else "the cache as it is"
            raise ValueError(f"folders {one_name!r} and {two_name!r} both measured {what}; give one of them")
    one = loaded[whole[0]]
    for name, other in loaded.items():
        if other.keep:
            raise ValueError(
                f"folder {name!r} was measured at numbers of rows to keep; a diagram needs ratios"
            )
        for setting in dict.fromkeys((*one.settings, *other.settings)):
            mine, theirs = (told.settings.get(setting) for told in (one, other))
            if setting not in FREE and mine != theirs:
                raise ValueError(
                    f"folders {whole[0]!r} and {name!r} do not belong together: {setting} is {mine!r} there and "
                    f"{theirs!r} here"
                )
        if set(other.names) != set(one.names):
            both = len(set(other.names) & set(one.names))
            raise ValueError(
                f"folders {whole[0]!r} and {name!r} have {both} of {len(one.names)} and {len(other.names)} prompts in "
                "common; measure the same ones"
            )
        mine, theirs = (dict(zip(told.names, told.right[:, 0, 0], strict=True)) for told in (one, other))
        if mine != theirs:
            raise ValueError(
                f"folders {whole[0]!r} and {name!r} differ in what is right with nothing removed and the cache as "
                "it is"
            )


def _policy(loaded: Mapping[str, Measured], policy: str | None) -> str:
    shared = [
        name
        for name in next(iter(loaded.values())).policies
        if all(name in one.policies for one in loaded.values())
    ]
    if policy is not None and policy not in shared:
        raise ValueError(f"unknown policy {policy!r}; all folders have: {', '.join(shared) or 'none'}")
    if policy is None and len(shared) != 1:
        raise ValueError(f"name one policy with --policy; all folders have: {', '.join(shared) or 'none'}")
    return policy or shared[0]


def _rows_left(whole: Measured, ratios: Sequence[float]) -> Floats:
    """Return the share of rows that is left at each ratio, mean over the items, float64[n_ratios]."""
    return np.array([np.mean([n_kept(int(n), ratio) / n for n in whole.n_context]) for ratio in ratios])
