"""Rows that go last, whatever their scores: sinks at the start and a window at the end.

They put a cliff into every curve that is the code's, not the model's: where they alone fill the budget, all else is
gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Protection:
    """Which rows of a context are protected.

    Attributes
    ----------
    n_sink, window : int
        Rows at the start and at the end of the context, or of each chunk of it.
    chunk_length : int or None
        Rows of a chunk; None: the context is one.
    """

    n_sink: int = 0
    window: int = 0
    chunk_length: int | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Protection:
        """Return what parameters of these names say; of others no notice is taken."""
        length = parameters.get("chunk_length")
        return cls(
            int(parameters.get("n_sink", 0)),
            int(parameters.get("window", 0)),
            None if length is None else int(length),
        )

    def __or__(self, other: Protection) -> Protection:
        """Return the rows that either protects, in the chunks of whichever cuts any."""
        length = other.chunk_length if self.chunk_length is None else self.chunk_length
        return Protection(max(self.n_sink, other.n_sink), max(self.window, other.window), length)

    def rows(self, n: int) -> NDArray[np.bool_]:
        """Return which of `n` rows are protected, bool[n]; the last chunk may be shorter than the others."""
        length = self.chunk_length or n
        position = np.arange(n)
        within = position % length
        size = np.minimum(length, n - (position - within))
        return np.asarray((within < self.n_sink) | (within >= size - self.window))

    @property
    def words(self) -> str:
        """What is protected, in words; nothing where nothing is."""
        named = [f"{self.n_sink} sinks"] * bool(self.n_sink)
        named += [f"a window of {self.window}"] * bool(self.window)
        return " and ".join(named)


def structural_cliffs(protections: Sequence[Protection], lengths: Sequence[int]) -> dict[str, float]:
    """Return the ratios beyond which protected rows fill the budget, in the shortest and the longest context.

    Parameters
    ----------
    protections : sequence of Protection
        Of every context.
    lengths : sequence of int
        Rows of every context.

    Returns
    -------
    dict of str to float
        Ratio by what puts it there; empty where nothing is protected.
    """
    found: dict[str, float] = {}
    ends = (("shortest", min), ("longest", max)) if min(lengths) < max(lengths) else (("every", min),)
    for word, end in ends:
        n = end(lengths)
        one = protections[list(lengths).index(n)]
        rows = one.n_sink + one.window
        if rows and one.chunk_length is not None:
            found[f"{one.words} in each chunk of {one.chunk_length}"] = 1 - rows / one.chunk_length
        elif rows:
            found[f"{one.words} in {'' if word == 'every' else 'the '}{word} prompt, n = {n}"] = 1 - rows / n
    return found
