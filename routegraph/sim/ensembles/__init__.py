"""Ensembles of read graphs, one layer at a time.

An ensemble is ``(key, layer, *, n_tokens, n_heads, degree, **parameters) -> Edges``, registered with
`@ensemble`. It draws from the counter-based numbers of (key, layer) only, so the layer is the same
whether it is stored or made inside a pass. Put a new one in a file of its own and import it here.
"""

from routegraph.sim.ensembles import uniform, window
from routegraph.sim.ensembles.base import Edges, draw_graph, ensemble, ensembles

__all__ = ["Edges", "draw_graph", "ensemble", "ensembles", "uniform", "window"]
