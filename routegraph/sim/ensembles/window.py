"""Every head reads from the most recent positions only: local attention."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from routegraph.rng import below, stream
from routegraph.sim.ensembles.base import Edges, ensemble, regular


@nb.njit(cache=True, nogil=True)
def _draw(key: Any, layer: int, n_heads: int, degree: int, window: int, slots: NDArray[Any]) -> None:
    for head in range(n_heads):
        numbers = stream(key, layer, head)
        for query in range(len(slots)):
            width = min(query + 1, window)
            for draw in range(degree):
                read = query - below(numbers, query, draw, width)
                slots[query, head * degree + draw] = read * n_heads + head


@ensemble("window")
def window(
    key: np.uint64, layer: int, *, n_tokens: int, n_heads: int, degree: int, window: int = 64
) -> Edges:
    """Each (layer, head, token i) reads `degree` keys uniform on the last `window` positions up to i.

    Raises
    ------
    ValueError
        If window is below 1.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    indptr, slots = regular(n_tokens, n_heads, degree)
    _draw(key, layer, n_heads, degree, window, slots)
    return Edges(indptr, slots.ravel())
