"""What every generator of stories needs: choices at random, and values that are put together from words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


class Picks:
    """Choices by one random generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        return choices[int(self.rng.integers(len(choices)))]

    def some(self, choices: Sequence[T], n: int) -> list[T]:
        """Return `n` of the choices, or all if there are fewer, in random order."""
        return [choices[place] for place in self.rng.permutation(len(choices))[:n]]


def values_of(told: Sequence[Any]) -> tuple[str, ...]:
    """Return values as a file of words gives them: a list of them, or lists whose words go together in every way."""
    if told and not isinstance(told[0], str):
        return tuple(" ".join(chosen) for chosen in product(*told))
    return tuple(told)


def capital(sentence: str) -> str:
    """Return a sentence with a capital first letter."""
    return sentence[0].upper() + sentence[1:]
