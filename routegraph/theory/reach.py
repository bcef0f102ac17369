"""Theory of reachability on the layered read graph: the cavity (mean-field) recursion.

`cavity` follows the mean alone. `routegraph.theory.fluctuations` adds the randomness of the first layers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from routegraph.theory.loads import uniform_load, window_load

__all__ = ["Load", "Profile", "cavity", "cavity_decode", "cavity_mean", "uniform_load", "window_load"]

Profile = NDArray[np.float64]
Load = Callable[[Profile], Profile]


def cavity(
    n_context: int,
    n_layers: int,
    n_heads: int,
    degree: float,
    gone: ArrayLike,
    residual: bool = True,
    load: Load = uniform_load,
) -> NDArray[np.float64]:
    """Return the probability that each cache row is reached from one query after the context.

    Parameters
    ----------
    n_context, n_layers, n_heads : int
        Cache rows (the query is position n_context), layers, KV heads a layer.
    degree : float
        Reads drawn by each (layer, head, token); with g query heads a KV head, g times as many.
    gone : float or float[n_ratios]
        Fraction of rows gone from each slot.
    residual : bool
        Whether a token also carries itself down.
    load : function of float64[n_context + 1] to the same
        Expected reads of each key by the reached queries, a read each (`routegraph.theory.loads`).

    Returns
    -------
    float64[n_ratios, n_context]

    Notes
    -----
    With lambda_j = degree * load(p)_j and P_j = (1 - gone)(1 - exp(-lambda_j)), a layer gives
    p'(j) = 1 - (1 - p(j)) (1 - P_j)^n_heads; without residual the first factor is dropped. Valid for
    pruning "columns", independent slots and reads drawn with replacement. It ignores the fluctuations of
    the first layers, where few tokens are reached, and so lies .008 to .016 above simulation up to ratio
    .85 (n = 4096, 12 layers, 4 heads, degree 2); `fluctuations.cavity_fluctuating` puts them in (.0007).
    """
    fractions = np.atleast_1d(np.asarray(gone, dtype=float))
    result = np.empty((len(fractions), n_context))
    kept = np.ones(n_context + 1)
    for row, fraction in enumerate(fractions):
        kept[:n_context] = 1 - fraction
        reached = np.zeros(n_context + 1)
        reached[n_context] = 1.0
        for _ in range(n_layers):
            read = kept * -np.expm1(-degree * load(reached))
            missed = (1 - read) ** n_heads
            reached = 1 - (1 - reached) * missed if residual else 1 - missed
        result[row] = reached[:n_context]
    return result


#: Rows up to which each is followed by itself, and parts of an e-fold into which those beyond are put together.
SINGLE, PARTS = 4096, 4096


def cavity_mean(
    n_context: int, n_layers: int, n_heads: int, degree: float, gone: ArrayLike, residual: bool = True
) -> NDArray[np.float64]:
    """Return the share of rows that are reached: the mean over rows of `cavity`, for uniform reads.

    Parameters are those of `cavity`.

    Returns
    -------
    float64[n_ratios]

    Notes
    -----
    What reaches a row goes by the sum of 1 / (i + 1) over the later ones, which changes as the logarithm of its
    position. So beyond `SINGLE` rows are taken together that lie within 1 / `PARTS` of an e-fold: what a block's rows
    read of it is half of the block, and the error is of second order in its width, below 1e-6. The cost no longer grows
    with the context.
    """
    few = min(n_context, SINGLE)
    beyond = np.rint(np.geomspace(few, n_context, 2 + int(PARTS * np.log(n_context / few))))
    edges = np.unique(np.concatenate([np.arange(few), beyond.astype(np.int64)]))
    edges = np.append(edges, n_context + 1)  # the query is a block of its own
    size = np.diff(edges)
    weight = np.diff(digamma(edges + 1.0))
    ahead = (size - 1) / (2 * size)  # of a block's weight lies before one of its rows, on average

    def load(reached: Profile) -> Profile:
        share = reached * weight
        return np.asarray(np.cumsum(share[::-1])[::-1] - share * ahead)

    blocks = cavity(len(size) - 1, n_layers, n_heads, degree, gone, residual, load)
    return np.asarray(blocks @ size[:-1] / n_context)


def cavity_decode(
    n_context: int,
    n_layers: int,
    n_heads: int,
    degree: float,
    gone: ArrayLike,
    residual: bool = True,
    load: Load = uniform_load,
) -> NDArray[np.float64]:
    """Return what `cavity` returns for pruning "decode": only the query's own reads are cut.

    Parameters and result are those of `cavity`.

    Notes
    -----
    Two populations. The query row has reached probability q (1 with residual) and its reads of a context
    slot find the row alive with probability 1 - gone; reads by context rows are never cut. With lambda_q =
    degree * q * K(n_context, j) and lambda_c the load of the context rows, a layer gives

        p'(j) = 1 - (1 - p(j)) [exp(-lambda_c) (1 - (1 - gone)(1 - exp(-lambda_q)))]^n_heads.

    The mean alone is a bad guide here: a single surviving read of the query in an early layer opens nearly
    everything, so the outcome is that of a few coin flips (the cavity lies up to .4 above simulation at
    high ratios). Use ``fluctuations.cavity_fluctuating(..., prune="decode")``; this is its first step.
    """
    fractions = np.atleast_1d(np.asarray(gone, dtype=float))
    result = np.empty((len(fractions), n_context))
    query = np.zeros(n_context + 1)
    query[n_context] = 1.0
    by_query = degree * load(query)
    for row, fraction in enumerate(fractions):
        kept = np.full(n_context + 1, 1 - fraction)
        kept[n_context] = 1.0
        reached = query.copy()
        for _ in range(n_layers):
            context = reached.copy()
            context[n_context] = 0.0
            spared = np.exp(-degree * load(context))
            missed = (spared * (1 - kept * -np.expm1(-by_query * reached[n_context]))) ** n_heads
            reached = 1 - (1 - reached) * missed if residual else 1 - missed
        result[row] = reached[:n_context]
    return result
