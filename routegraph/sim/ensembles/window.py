"""Every head reads from the most recent positions only: local attention."""

from __future__ import annotations

import numpy as np

from routegraph.sim.ensembles.base import Edges, draw_recent, ensemble, regular


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
    edges = regular(n_tokens, n_heads, degree)
    draw_recent(key, layer, n_heads, degree, window, edges.slots)
    return edges
