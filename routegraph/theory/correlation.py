"""Small fields for the correlation of slots: a few numbers in place of a measured M x M matrix.

Each function fits a field to a measured correlation (`routegraph.theory.copula.slot_correlation`) by least squares
on its off-diagonal entries, and returns the full matrix that the field stands for, ready for `gaussian_copula` or
`student_copula`. GER is never fitted.

Which one to take. On SmolLM2 (90 slots, 48 prompts of some 220 tokens, Expected Attention; correlations from half
of the prompts, GER of the others, ratios .6 to .98) correlations scatter by .22 about any function of the distance
in depth, and some are negative: `distance_field` catches the mean only. One loading a slot plus what neighbouring
layers share (`factor_field`, 92 numbers) with a Student-t copula is as good as the full matrix (docs/theory.md has
the table).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


class Field(NamedTuple):
    """A correlation matrix described by few numbers.

    Attributes
    ----------
    matrix : float64[M, M]
        With a unit diagonal; not always positive semi-definite (the copulas clip it).
    numbers : int
        Parameters it took.
    parameters : dict
        Their values by name: floats, or arrays for one number a slot.
    rms : float
        Root mean square of matrix - measured, off the diagonal.
    """

    matrix: Matrix
    numbers: int
    parameters: dict[str, Any]
    rms: float


def distance_field(
    correlation: Matrix, layer: ArrayLike, *, same_layer: bool = False, exponentials: int = 1
) -> Field:
    """Fit rho(d) = r_inf + sum of r_i exp(-d / xi_i), d the distance in layers.

    Parameters
    ----------
    correlation : float64[M, M]
        Measured.
    layer : int[M]
        Layer of each slot.
    same_layer : bool
        Give slots of one layer a value of their own (a nugget).
    exponentials : int
        How many terms decay; 1 is the field of three numbers.

    Returns
    -------
    Field
        Parameters `floor` (r_inf), `amplitude` (r_i), `length` (xi_i, layers) and `same_layer`.
    """
    distance = _distance(layer)
    pairs = _pairs(correlation)
    target = correlation[pairs]
    values, position = np.unique(distance[pairs], return_inverse=True)

    def curve(x: Matrix) -> Matrix:
        result = np.full(len(values), x[0])
        for i in range(exponentials):
            result = result + x[1 + 2 * i] * np.exp(-values / x[2 + 2 * i])
        if same_layer:
            result[values == 0] = x[-1]
        return result

    # Exponentials start at lengths a factor 4 apart, so that two of them are not one.
    start, low, high = [0.05], [-1.0], [1.0]
    for i in range(exponentials):
        start += [0.5 / exponentials, 12.0 / 4**i]
        low += [-2.0, 0.05]
        high += [2.0, 500.0]
    if same_layer:
        start, low, high = [*start, 0.5], [*low, -1.0], [*high, 1.0]
    x = _least_squares(lambda x: curve(x)[position] - target, start, low, high)
    matrix = curve(x)[np.searchsorted(values, np.minimum(distance, values[-1]))]
    parameters: dict[str, Any] = {"floor": float(x[0]), "amplitude": x[1::2][:exponentials].tolist()}
    parameters["length"] = x[2::2][:exponentials].tolist()
    if same_layer:
        parameters["same_layer"] = float(x[-1])
    return _field(matrix, correlation, len(x), parameters)


def offset_field(correlation: Matrix, layer: ArrayLike) -> Field:
    """Fit the field of three numbers plus an offset for each slot: rho(d) + o_i + o_j.

    `correlation` and `layer` as for `distance_field`; M + 3 numbers. Far from positive semi-definite where
    offsets are large: a field to know and not to use.
    """
    distance, pairs = _distance(layer), _pairs(correlation)
    i, j = pairs
    target, apart = correlation[pairs], distance[pairs]
    slots = len(correlation)
    # Offsets are linear: given the field they follow from a least-squares problem with a fixed matrix.
    design = np.zeros((len(i), slots))
    design[np.arange(len(i)), i] = 1
    design[np.arange(len(i)), j] = 1
    solve = np.linalg.pinv(design)
    offsets = np.zeros(slots)
    field = np.zeros(len(i))
    for _ in range(20):
        x = _least_squares(
            lambda x, o=offsets: x[0] + x[1] * np.exp(-apart / x[2]) + o[i] + o[j] - target,
            [0.05, 0.45, 10.0],
            [-2.0, -2.0, 0.05],
            [2.0, 2.0, 500.0],
        )
        field = x[0] + x[1] * np.exp(-apart / x[2])
        offsets = solve @ (target - field)
    matrix = x[0] + x[1] * np.exp(-distance / x[2]) + offsets[:, None] + offsets
    parameters = {"floor": float(x[0]), "amplitude": float(x[1]), "length": float(x[2]), "offset": offsets}
    return _field(matrix, correlation, slots + 3, parameters)


def layer_field(correlation: Matrix, layer: ArrayLike) -> Field:
    """Take the mean over heads for each pair of layers, L (L + 1) / 2 numbers.

    `correlation` and `layer` as for `distance_field`. A layer of one slot has 0 with itself.
    """
    _, index = np.unique(np.asarray(layer), return_inverse=True)
    member = np.eye(index.max() + 1)[index]
    off = correlation - np.diag(np.diag(correlation))
    counts = member.T @ (1 - np.eye(len(off))) @ member
    means = member.T @ off @ member / np.maximum(counts, 1)
    size = len(means)
    return _field(means[np.ix_(index, index)], correlation, size * (size + 1) // 2, {"means": means})


def factor_field(
    correlation: Matrix, layer: ArrayLike, *, factors: int = 1, local: bool = True, rounds: int = 500
) -> Field:
    """Fit `factors` loadings a slot, and a local part that decays with depth distance.

    Parameters
    ----------
    correlation, layer
        As for `distance_field`.
    factors : int
        Factors of the token, each with M loadings (principal factors, communalities iterated).
    local : bool
        Add u_i u_j amplitude exp(-d / length), u_i^2 = 1 - communality: what the factors leave over is shared
        with slots near in depth.
    rounds : int
        At most so many iterations of the communalities.

    Returns
    -------
    Field
        factors * M numbers, two more with `local`. Positive semi-definite by construction. Parameters
        `loadings` float64[M, factors], `amplitude`, `length`.
    """
    slots = len(correlation)
    communality = np.full(slots, 0.5)
    loadings = np.zeros((slots, factors))
    for _ in range(rounds):
        reduced = correlation.copy()
        np.fill_diagonal(reduced, communality)
        values, vectors = np.linalg.eigh(reduced)
        loadings = vectors[:, ::-1][:, :factors] * np.sqrt(np.maximum(values[::-1][:factors], 0))
        found = np.minimum((loadings**2).sum(axis=1), 0.995)
        done = np.abs(found - communality).max() < 1e-6
        communality = found
        if done:
            break
    matrix = loadings @ loadings.T
    parameters: dict[str, Any] = {"loadings": loadings}
    if local:
        own = np.sqrt(1 - communality)
        weight, distance, pairs = np.outer(own, own), _distance(layer), _pairs(correlation)
        rest = (correlation - matrix)[pairs]
        x = _least_squares(
            lambda x: weight[pairs] * x[0] * np.exp(-distance[pairs] / x[1]) - rest,
            [0.3, 3.0],
            [0.0, 0.05],
            [1.0, 500.0],
        )
        matrix = matrix + weight * x[0] * np.exp(-distance / x[1])
        parameters |= {"amplitude": float(x[0]), "length": float(x[1])}
    return _field(matrix, correlation, factors * slots + 2 * local, parameters)


def _distance(layer: ArrayLike) -> Matrix:
    depth = np.asarray(layer, dtype=float)
    return np.asarray(np.abs(depth[:, None] - depth))


def _pairs(correlation: Matrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.triu_indices(len(correlation), 1)


def _least_squares(residual: Any, start: Any, low: Any, high: Any) -> Matrix:
    from scipy.optimize import least_squares

    return np.asarray(least_squares(residual, start, bounds=(low, high)).x)


def _field(matrix: Matrix, correlation: Matrix, numbers: int, parameters: dict[str, Any]) -> Field:
    full = matrix.copy()
    np.fill_diagonal(full, 1.0)
    pairs = _pairs(correlation)
    rms = float(np.sqrt(np.mean((full[pairs] - correlation[pairs]) ** 2)))
    return Field(full, numbers, parameters, rms)
