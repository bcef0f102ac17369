"""Hypothesis strategies for graphs, survival tables and ratios."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from routegraph import Survival, TokenGraph


@st.composite
def token_graphs(
    draw: st.DrawFn,
    *,
    max_layers: int = 3,
    max_heads: int = 2,
    max_tokens: int = 5,
    max_edges: int = 16,
    causal: bool = True,
    weighted: bool = False,
) -> TokenGraph:
    """Small graphs: down to one layer, head and token and no edge; parallel edges; n_context <= n_tokens.

    Parameters
    ----------
    max_layers, max_heads, max_tokens, max_edges : int
        Largest sizes.
    causal : bool
        Keys at or before their query (default), or anywhere.
    weighted : bool
        Give every edge an attention weight.
    """
    n_layers = draw(st.integers(1, max_layers))
    n_heads = draw(st.integers(1, max_heads))
    n_tokens = draw(st.integers(1, max_tokens))
    n_context = draw(st.integers(1, n_tokens))
    position = st.integers(0, n_tokens - 1)
    edge = st.tuples(st.integers(1, n_layers), st.integers(0, n_heads - 1), position, position)
    edges = draw(st.lists(edge, max_size=max_edges))
    if causal:
        edges = [(layer, head, max(a, b), min(a, b)) for layer, head, a, b in edges]
    weight = None
    if weighted:
        weight = draw(st.lists(st.floats(0, 1, width=32), min_size=len(edges), max_size=len(edges)))
    columns = np.array(edges, dtype=np.int64).reshape(-1, 4).T
    return TokenGraph.from_edges(
        n_layers, n_heads, n_tokens, *columns, weight=weight, n_context=n_context, causal=causal
    )


@st.composite
def survivals(
    draw: st.DrawFn, n_layers: int, n_heads: int, n_context: int, steps: bool | None = None
) -> Survival:
    """Survival tables of a given shape, ties and the extremes 1 and max_level + 1 included.

    Parameters
    ----------
    n_layers, n_heads, n_context : int
        Shape of `drop`.
    steps : bool, optional
        With `steps` (True), without (False), or either (default).
    """
    if steps is None:
        steps = draw(st.booleans())
    ratios = None
    if steps:
        ratio = st.floats(0, 1, exclude_max=True)
        ratios = np.array(sorted(draw(st.lists(ratio, max_size=5, unique=True))), dtype=float)
    max_level = n_context if ratios is None else len(ratios)
    entries = st.integers(1, max_level + 1)
    return Survival(draw(hnp.arrays(np.int32, (n_layers, n_heads, n_context), elements=entries)), ratios)


@st.composite
def reach_problems(draw: st.DrawFn, **graph: Any) -> tuple[TokenGraph, Survival, list[int]]:
    """A graph, a survival table that fits it, and one to three sources; keywords as for `token_graphs`."""
    made = draw(token_graphs(**graph))
    survival = draw(survivals(made.n_layers, made.n_heads, made.n_context))
    sources = draw(st.lists(st.integers(0, made.n_tokens - 1), min_size=1, max_size=3))
    return made, survival, sources


def ratios(n: int) -> st.SearchStrategy[float]:
    """Compression ratios in [0, 1), many of them at or one float beside a change of the kept number of n."""
    exact = [k / n for k in range(n)] + [1 - k / n for k in range(1, n + 1)]
    near = [math.nextafter(r, side) for r in exact for side in (0, 1)]
    return st.one_of(
        st.sampled_from(sorted({r for r in exact + near if 0 <= r < 1})),
        st.floats(0, 1, exclude_max=True),
    )
