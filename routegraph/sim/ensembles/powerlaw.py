"""Every head reads at distances that follow a power law: from local to uniform in one exponent."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
from numpy.typing import NDArray

from routegraph.kernels.rng import stream
from routegraph.kernels.rng import uniform as draw_uniform
from routegraph.sim.ensembles.base import Edges, ensemble, pick_between, regular


@nb.njit(cache=True, nogil=True)
def _draw(
    key: Any, layer: int, n_heads: int, degree: int, cumulative: NDArray[Any], slots: NDArray[Any]
) -> None:
    n_tokens = len(slots) // (n_heads * degree)
    for head in range(n_heads):
        numbers = stream(key, layer, head)
        for query in range(n_tokens):
            for draw in range(degree):
                read = query - pick_between(cumulative, 0, query, draw_uniform(numbers, query, draw))
                slots[(query * n_heads + head) * degree + draw] = read * n_heads + head


@ensemble("powerlaw")
def powerlaw(
    key: np.uint64, layer: int, *, n_tokens: int, n_heads: int, degree: int, exponent: float = 1.0
) -> Edges:
    """Each (layer, head, token i) reads `degree` keys j <= i with chance falling as (i - j + 1)**-exponent.

    Exponent 0 is `uniform`; above 2 the reads are local.

    Raises
    ------
    ValueError
        If the exponent is negative.
    """
    if exponent < 0:
        raise ValueError(f"exponent must not be negative, got {exponent}")
    edges = regular(n_tokens, n_heads, degree)
    cumulative = np.cumsum(np.arange(1.0, n_tokens + 1) ** -exponent)
    _draw(key, layer, n_heads, degree, cumulative, edges.slots)
    return edges
