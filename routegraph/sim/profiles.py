"""Depth profiles: how much the heads of each layer agree, from the first layer to the last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from routegraph.registry import Registry
from routegraph.sim.fields import field_of_trace

#: Registry of depth profiles ``(depth[n_layers], **parameters) -> agreement[n_layers]``.
profiles = profile = Registry("profile")


@profile("flat")
def flat(depth: NDArray[np.float64], *, score_correlation: float = 0.0) -> NDArray[np.float64]:
    """Every layer alike: correlation `score_correlation`."""
    return np.full(len(depth), score_correlation)


@profile("llama")
def llama(depth: NDArray[np.float64], *, early: float = 0.8, late: float = 0.2) -> NDArray[np.float64]:
    """Synthetic: agreement from `early` down to `late`, as arXiv 2603.01426 (claim C5) says of LLaMA."""
    return early + (late - early) * depth


@profile("qwen")
def qwen(depth: NDArray[np.float64], *, early: float = 0.2, late: float = 0.8) -> NDArray[np.float64]:
    """Synthetic: agreement from `early` up to `late`, as arXiv 2603.01426 (claim C5) says of Qwen."""
    return early + (late - early) * depth


@profile("given")
def given(depth: NDArray[np.float64], *, values: Sequence[float] = (0.0,)) -> NDArray[np.float64]:
    """Values at equally spaced depths from the first layer to the last, interpolated between them."""
    anchors = np.linspace(0, 1, len(values))
    return np.asarray(np.interp(depth, anchors, np.asarray(values, dtype=float)))


@profile("trace")
def trace(depth: NDArray[np.float64], *, field_trace: str = "") -> NDArray[np.float64]:
    """Resample a real model's field: agreement by depth, floor and length fitted to a trace's scores."""
    if not field_trace:
        raise ValueError("profile 'trace' needs a trace file: --set field_trace=FILE")
    return field_of_trace(field_trace, len(depth)).in_layer


def agreement_by_layer(name: str, n_layers: int, **parameters: object) -> NDArray[np.float64]:
    """Return the agreement of layers 1..n_layers, float64[n_layers] in [0, 1].

    Raises
    ------
    ValueError
        If the profile is unknown, a parameter not taken, or a value outside [0, 1].
    """
    profiles.check_parameters(name, parameters)
    depth = np.linspace(0, 1, n_layers) if n_layers > 1 else np.zeros(1)
    values: NDArray[np.float64] = profiles[name](depth, **parameters)
    outside = (values < 0) | (values > 1) | np.isnan(values)
    if outside.any():
        raise ValueError(f"agreement of profile {name!r} must be in [0, 1], got {values[outside][0]:g}")
    return values
