"""1+1 directed percolation as a read graph: the same in every layer, all randomness in the eviction."""

from __future__ import annotations

import numpy as np

from routegraph.sim.ensembles.base import Edges, ensemble, slot_type

_KINDS = {"bond": (2, 1), "site": (1, 2)}


@ensemble("lattice")
def lattice(
    key: np.uint64,
    layer: int,
    *,
    n_tokens: int,
    n_heads: int,
    degree: int,
    kind: str = "bond",
    shift: int = 1,
) -> Edges:
    """Token i reads i - shift and i - shift - 1, by two heads (kind "bond") or by one ("site").

    With policy "bernoulli" and no residual edges, reach from the query is 1+1 directed percolation of
    density 1 - ratio: bonds are slots of their own, sites are shared by both reads. With shift 0 the lines
    run straight down; with shift 1 (the same lattice, sheared) the query leaves its own position, which is
    never evicted, at once. Reads before position 0 do not exist: keep n_tokens above 2 * n_layers.

    Raises
    ------
    ValueError
        If n_heads and degree are not those of the kind (bond: 2 heads, degree 1; site: 1 head, degree 2).
    """
    if kind not in _KINDS:
        raise ValueError(f"unknown lattice kind {kind!r}; choose from: {', '.join(_KINDS)}")
    if shift < 0:
        raise ValueError(f"shift must not be negative, got {shift}")
    if (n_heads, degree) != _KINDS[kind]:
        heads, reads = _KINDS[kind]
        raise ValueError(
            f"the {kind} lattice needs n_heads = {heads} and degree = {reads}, got {n_heads} and {degree}"
        )
    query = np.repeat(np.arange(n_tokens), 2)
    offset = np.tile([0, 1], n_tokens)
    read = query - shift - offset
    there = read >= 0
    slots = read * n_heads + (offset if kind == "bond" else 0)
    indptr = np.zeros(n_tokens + 1, dtype=np.int64)
    np.cumsum(there.reshape(n_tokens, 2).sum(axis=1), out=indptr[1:])
    return Edges(indptr, slots[there].astype(slot_type(n_tokens, n_heads)))
