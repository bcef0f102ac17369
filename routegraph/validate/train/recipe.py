"""What is to be trained: a family, a size, a curriculum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routegraph.validate.train.network import FAMILIES, LAYERS, WIDTH

#: Words of a context at most, unless longer ones are asked for; the most that can be asked for.
WORDS, MOST_WORDS = 96, 480

#: Widest rows and most layers: what a core can still train.
MOST_WIDTH, MOST_LAYERS = 512, 16


@dataclass(frozen=True)
class Recipe:
    """What is to be trained.

    Attributes
    ----------
    family : str
        One of `FAMILIES`.
    seed : int
    minutes : float
        Limit of processor time; where it is near, the tail comes early.
    abstains : bool
        Whether questions without an answer are part of the training; without them the model makes something up.
    words : int
        Most words of a context, 96 to 480.
    width : int
        Of a row's state, a multiple of 16, 64 to 512.
    layers : int
        4 to 16.
    """

    family: str
    seed: int = 0
    minutes: float = 15.0
    abstains: bool = True
    words: int = WORDS
    width: int = WIDTH
    layers: int = LAYERS

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"unknown model to train {self.family!r}; choose from: {', '.join(FAMILIES)}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if not 0 < self.minutes < np.inf:
            raise ValueError(f"minutes must be above 0, got {self.minutes}")
        if not WORDS <= self.words <= MOST_WORDS:
            raise ValueError(f"words must be in {WORDS}..{MOST_WORDS}, got {self.words}")
        if self.width % 16 or not WIDTH <= self.width <= MOST_WIDTH:
            raise ValueError(f"width must be a multiple of 16 in {WIDTH}..{MOST_WIDTH}, got {self.width}")
        if not LAYERS <= self.layers <= MOST_LAYERS:
            raise ValueError(f"layers must be in {LAYERS}..{MOST_LAYERS}, got {self.layers}")
