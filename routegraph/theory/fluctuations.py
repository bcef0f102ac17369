"""The cavity recursion with the fluctuations of the first layers put in.

Why the plain cavity lies above simulation. It multiplies chances, as if the readers of a key were reached
independently of each other. They are not: all descend from the few reads that the query made in the first
layers. If those fell badly (none survived, or all on early positions, from which later positions cannot be
read), everything below is poorer together. Reach is concave in the size of the early population, so the mean
of the outcomes lies below the outcome of the mean.

What is done here. In the linear regime the population that can reach position u is a branching process with
mean h and variance V, both from an exact recursion. Far down it is W times its mean, W a random number set in
the first layers (the martingale limit of Galton and Watson; Harris 1963, Athreya and Ney 1972). So

1. by causality only positions >= u matter for u; the layer of the first surviving read of the query at or
   above u is geometric and is treated exactly;
2. from there on W gets a gamma law with its exact conditional mean and variance;
3. the cavity recursion is run for a source of strength w, for some forty w at once, and averaged over W.

Saturation, the slots shared by all readers and the Poisson number of readers of a key stay with the cavity,
which treats them exactly as n grows. No parameter is fitted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc

from routegraph.theory.loads import uniform_load
from routegraph.theory.reach import Load, Profile

Matrix = NDArray[np.float64]

#: Source strengths at which the recursion is run; between them the outcome is interpolated linearly.
_STRENGTHS = np.concatenate(
    [[0.0], np.geomspace(1e-5, 0.03, 15), np.geomspace(0.04, 10, 30), np.geomspace(12, 1e6, 25)]
)
#: A gamma law narrower than this is a point for our purpose.
_NARROWEST = 1e-4
#: Stands for 0 in a denominator: a bin that no read gets to.
_TINY = 1e-100


class Grid(NamedTuple):
    """Positions gathered in bins: intervals, each split by kind; the query is the last bin, by itself.

    Attributes
    ----------
    label : int64[n_context + 1]
        Bin of each position; bins are numbered by interval, then kind.
    interval : int64[n_bins]
        Interval of each bin.
    size : int64[n_bins]
        Positions in each bin.
    transfer : float64[n_bins, n_bins]
        Chance that one read of a query in bin a, position uniform within it, falls in bin b.
    own : float64[n_bins]
        Chance that it falls on the query's own position (taken at the middle of the bin).
    """

    label: NDArray[np.int64]
    interval: NDArray[np.int64]
    size: NDArray[np.int64]
    transfer: Matrix
    own: Profile


def grid(
    n_context: int,
    load: Load,
    growth: float = 0.1,
    widest: int | None = None,
    kinds: ArrayLike | None = None,
) -> Grid:
    """Gather positions in bins and reads in a matrix between them.

    Parameters
    ----------
    n_context : int
        Cache rows; the query is position n_context.
    load : function of float64[n_context + 1] to the same
        The kernel, from `routegraph.theory.loads`.
    growth : float
        Width of an interval over its distance from either end, where intervals are single positions.
    widest : int, optional
        Widest interval; n_context // 64 by default. A kernel narrower than some twenty such intervals (a
        window) needs less.
    kinds : int[n_context], optional
        Positions of one interval are taken as alike only if of one kind (say, of like popularity).

    Raises
    ------
    ValueError
        If `kinds` has another length.
    """
    limit = max(1, n_context // 64 if widest is None else widest)
    bounds = [0]
    while bounds[-1] < n_context:
        here = bounds[-1]
        width = min(limit, int(growth * here), int(growth * (n_context - here)))
        bounds.append(min(n_context, here + max(1, width)))
    interval = np.append(np.repeat(np.arange(len(bounds) - 1), np.diff(bounds)), len(bounds) - 1)
    kind = np.zeros(n_context, dtype=np.int64) if kinds is None else np.asarray(kinds)
    if kind.shape != (n_context,):
        raise ValueError(f"kinds must have one entry for each of the {n_context} rows, got {kind.shape}")
    _, kind = np.unique(kind, return_inverse=True)
    _, first, label = np.unique(
        interval * n_context + np.append(kind, 0), return_index=True, return_inverse=True
    )
    size = np.bincount(label)
    members = np.split(np.argsort(label, kind="stable"), np.cumsum(size)[:-1])
    transfer = np.empty((len(size), len(size)))
    own = np.empty(len(size))
    reached = np.zeros(n_context + 1)
    for a, positions in enumerate(members):
        reached[positions] = 1 / len(positions)
        transfer[a] = np.bincount(label, load(reached))
        reached[positions] = 0
        middle = positions[(len(positions) - 1) // 2]
        reached[middle] = 1
        own[a] = load(reached)[middle]
        reached[middle] = 0
    return Grid(label, interval[first], size, transfer, own)


class Growth(NamedTuple):
    """Law of the early growth above each context bin, one row for each number of layers 1..n_layers.

    Attributes
    ----------
    hit : float64[n_bins - 1]
        Chance that at least one read of the query in one layer survives at or above the bin.
    mean, variance : float64[n_layers, n_bins - 1]
        Of W, the population relative to its unconditional mean, given such a read in the first layer.
    """

    hit: Profile
    mean: Matrix
    variance: Matrix


def growth_law(space: Grid, n_layers: int, reads: float, alive: Matrix, residual: bool) -> Growth:
    """Return mean and variance of the early growth, given a surviving read of the query in its first layer.

    Parameters
    ----------
    space : Grid
    n_layers : int
    reads : float
        Reads a token makes in one layer: n_heads * degree.
    alive : float64[n_bins, n_bins]
        `space.transfer` times the chance that the slot read is alive.
    residual : bool

    Notes
    -----
    With T the transfer, A the living part of it and h(x, u) the expected number of times that u is read by
    the descendants of a token in x, V its variance: h' = T + h + reads A h and V' = V + reads (A (V + h^2) -
    (A h)^2). Where tokens do not carry themselves only the last layer counts: h' = reads A h, and V' without
    its first term. Reads of one token are independent; that two tokens meet is left out (early, they rarely
    do).
    """
    # A read at or above u: all higher intervals, and of u's own interval the positions from u up.
    landing = np.bincount(space.interval[:-1], alive[-1, :-1])
    width = np.bincount(space.interval[:-1], space.size[:-1])
    above = np.cumsum(landing[::-1])[::-1] - landing * (width - 1) / (2 * width)
    above = above[space.interval[:-1]] + alive[-1, -1]
    hit = -np.expm1(reads * np.log1p(-np.minimum(above, 1 - 1e-15)))
    expected, spread = space.transfer.copy(), np.zeros_like(space.transfer)
    some = np.maximum(hit, _TINY)
    # One layer only: the read itself is the hit.
    means, variances = [1 / some], [np.zeros_like(hit)]
    for _ in range(1, n_layers):
        step = alive @ expected
        noise = reads * (alive @ (spread + expected**2) - step**2)
        now = space.transfer * residual
        first, first_noise = reads * step[-1, :-1], noise[-1, :-1]
        direct = now[-1, :-1]
        later, later_noise = expected[-1, :-1] * residual, spread[-1, :-1] * residual
        variance = np.maximum((first_noise + first**2) / some - (first / some) ** 2, 0)
        total = np.maximum(first + direct + later, _TINY)
        means.append(np.maximum(((first + direct) / some + later) / total, _TINY))
        variances.append((variance + later_noise) / total**2)
        expected = now + reads * step + expected * residual
        spread = noise + spread * residual
    return Growth(hit, np.array(means), np.array(variances))


def gamma_weights(mean: Profile, variance: Profile, nodes: Profile) -> Matrix:
    """Return the weights by which values at `nodes` average to their mean under a gamma law.

    Parameters
    ----------
    mean, variance : float64[n]
        Of the gamma laws.
    nodes : float64[n_nodes]
        Increasing from 0; values between are interpolated linearly, those beyond the last are its own.

    Returns
    -------
    float64[n, n_nodes]
        Rows sum to 1.
    """
    shape = (mean**2 / np.maximum(variance, _NARROWEST * mean**2))[:, None]
    scaled = nodes / mean[:, None] * shape
    mass = np.diff(gammainc(shape, scaled), axis=1)
    moment = np.diff(gammainc(shape + 1, scaled), axis=1) * mean[:, None]
    right = (moment - nodes[:-1] * mass) / np.diff(nodes)
    weights = np.zeros((len(mean), len(nodes)))
    weights[:, :-1] += mass - right
    weights[:, 1:] += right
    weights[:, -1] += 1 - mass.sum(axis=1)
    return weights


def cavity_fluctuating(
    n_context: int,
    n_layers: int,
    n_heads: int,
    degree: int,
    gone: ArrayLike,
    residual: bool = True,
    load: Load = uniform_load,
    prune: str = "columns",
    growth: float = 0.1,
    widest: int | None = None,
    kinds: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Return the probability that each cache row is reached, with the fluctuations of the first layers.

    Parameters
    ----------
    n_context, n_layers, n_heads, degree, gone, residual, load
        As for `routegraph.theory.reach.cavity`.
    prune : {"columns", "decode"}
        Cut reads of dead slots by every query, or by the query after the context only.
    growth, widest, kinds : float, int, int[n_context]
        Resolution, as for `grid`.

    Returns
    -------
    float64[n_ratios, n_context]
        Constant within the bins of `grid`.

    Raises
    ------
    ValueError
        If the pruning is unknown.

    Notes
    -----
    Cost: n_layers * n_bins^3 operations a ratio, about 30 ms for 12 layers at any n. Valid for causal
    kernels, independent slots, one query, reads drawn with replacement. Largest distance from simulation over
    ratios 0 to .99, uniform reads, n = 4096 (standard errors to .001; .006 for decode at high ratios):

    ======================================  =====================  ================
    case                                    this                   plain mean field
    ======================================  =====================  ================
    12 layers, 4 heads, degree 2, columns   .0007                  .016
    32 layers, 8 heads, degree 1, columns   .0018                  .018
    12 layers, 4 heads, degree 2, decode    .006                   .41
    32 layers, 8 heads, degree 1, decode    .005                   .35
    ======================================  =====================  ================

    Without residual about .01 above (plain: .025): there populations stay small and keep fluctuating.
    Kernels that read nearby make loops (readers of one key share readers), which no recursion of means holds: a
    power law of exponent above 1, or recent windows of a few dozen positions, break it (docs/theory.md).
    """
    if prune not in ("columns", "decode"):
        raise ValueError(f"unknown pruning {prune!r}; choose from: columns, decode")
    space = grid(n_context, load, growth, widest, kinds)
    if residual:  # a token that carries itself gains nothing by reading itself
        space = space._replace(transfer=np.maximum(space.transfer - np.diag(space.own), 0))
    fractions = np.atleast_1d(np.asarray(gone, dtype=float))
    result = np.zeros((len(fractions), n_context))
    for row, fraction in enumerate(fractions):
        if fraction < 1:
            profile = _profile(space, n_layers, n_heads, degree, 1 - fraction, residual, prune == "decode")
            result[row] = profile[space.label[:-1]]
    return result


def _profile(
    space: Grid, n_layers: int, n_heads: int, degree: int, kept: float, residual: bool, decode: bool
) -> Profile:
    """Return the chance of each context bin at one ratio."""
    slots = np.full(len(space.size), kept)
    slots[-1] = 1.0  # the query's own row is no cache row
    alive = space.transfer * slots
    if decode:
        alive[:-1] = space.transfer[:-1]
    law = growth_law(space, n_layers, n_heads * degree, alive, residual)
    reached = np.zeros((len(_STRENGTHS), len(space.size)))
    reached[:, -1] = 1.0
    answer = np.zeros(len(space.size) - 1)
    for layer in range(1, n_layers + 1):
        by_query = degree * np.outer(_STRENGTHS * reached[:, -1], space.transfer[-1]) / space.size
        by_context = degree * (reached[:, :-1] * space.size[:-1]) @ space.transfer[:-1] / space.size
        if decode:
            missed = np.exp(-by_context) * (1 - slots * -np.expm1(-by_query))
        else:
            missed = 1 - slots * -np.expm1(-by_context - by_query)
        missed **= n_heads
        reached = 1 - (1 - reached) * missed if residual else 1 - missed
        # The first surviving read at or above the bin came with `layer` layers to go.
        waited = n_layers - layer
        if residual or waited == 0:
            weights = gamma_weights(law.mean[layer - 1], law.variance[layer - 1], _STRENGTHS)
            found = np.einsum("bw,wb->b", weights, reached[:, :-1])
            answer += law.hit * (1 - law.hit) ** waited * found
    return answer
