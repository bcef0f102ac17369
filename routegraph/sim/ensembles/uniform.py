"""Every head reads uniformly from the past: the simplest causal graph."""

from __future__ import annotations

import numpy as np

from routegraph.sim.ensembles.base import Edges, draw_recent, ensemble, regular


@ensemble("uniform")
def uniform(key: np.uint64, layer: int, *, n_tokens: int, n_heads: int, degree: int) -> Edges:
    """Each (layer, head, token i) reads `degree` keys uniform on 0..i, with replacement."""
    edges = regular(n_tokens, n_heads, degree)
    draw_recent(key, layer, n_heads, degree, n_tokens, edges.slots)
    return edges
