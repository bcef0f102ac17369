"""Ensembles of read graphs, one layer at a time.

An ensemble is ``(key, layer, *, n_tokens, n_heads, degree, **parameters) -> Edges``, registered with
`@ensemble`. It draws from the counter-based numbers of (key, layer) only, so the layer is the same
whether it is stored or made inside a pass. Put a new one in a file of its own and import it here.
"""

from routegraph.sim.ensembles import empirical, lattice, powerlaw, sink, uniform, window
from routegraph.sim.ensembles.base import Edges, ensemble, ensembles, regular

__all__ = [
    "Edges",
    "empirical",
    "ensemble",
    "ensembles",
    "lattice",
    "powerlaw",
    "regular",
    "sink",
    "uniform",
    "window",
]
