"""Every head reads uniformly from the past: the simplest causal graph."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from routegraph.rng import below, stream
from routegraph.sim.ensembles.base import Edges, ensemble, regular


@nb.njit(cache=True, nogil=True)
def _draw(key: Any, layer: int, n_heads: int, degree: int, slots: NDArray[Any]) -> None:
    for head in range(n_heads):
        numbers = stream(key, layer, head)
        for query in range(len(slots)):
            for draw in range(degree):
                read = below(numbers, query, draw, query + 1)
                slots[query, head * degree + draw] = read * n_heads + head


@ensemble("uniform")
def uniform(key: np.uint64, layer: int, *, n_tokens: int, n_heads: int, degree: int) -> Edges:
    """Each (layer, head, token i) reads `degree` keys uniform on 0..i, with replacement."""
    indptr, slots = regular(n_tokens, n_heads, degree)
    _draw(key, layer, n_heads, degree, slots)
    return Edges(indptr, slots.ravel())
