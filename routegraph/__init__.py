"""routegraph: token-attention graphs under KV-cache eviction, as simulation, theory and measurement.

Names load on first use (PEP 562), so that ``import routegraph`` is instant and loads no torch,
transformers, kvpress or matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from routegraph._version import __version__

if TYPE_CHECKING:
    from routegraph.critical.fit import fit_critical
    from routegraph.graph import TokenGraph
    from routegraph.routes import reach_thresholds, reach_thresholds_each, winning_ticket
    from routegraph.sim.simulation import simulate
    from routegraph.sim.sweep import sweep
    from routegraph.survival import Survival, eviction_rate, ger, n_kept
    from routegraph.trace import Trace
    from routegraph.validate.certify.dial import load_dial

_HOME = {
    "TokenGraph": "graph",
    "Survival": "survival",
    "n_kept": "survival",
    "ger": "survival",
    "eviction_rate": "survival",
    "reach_thresholds": "routes",
    "reach_thresholds_each": "routes",
    "winning_ticket": "routes",
    "fit_critical": "critical.fit",
    "simulate": "sim.simulation",
    "sweep": "sim.sweep",
    "Trace": "trace",
    "load_dial": "validate.certify.dial",
}

__all__ = [
    "Survival",
    "TokenGraph",
    "Trace",
    "__version__",
    "eviction_rate",
    "fit_critical",
    "ger",
    "load_dial",
    "n_kept",
    "reach_thresholds",
    "reach_thresholds_each",
    "simulate",
    "sweep",
    "winning_ticket",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"routegraph.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'routegraph' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
