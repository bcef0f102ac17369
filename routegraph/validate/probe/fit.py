"""Linear probes: grouped cross-validation of a logistic regression, macro-F1 with bootstrap over worlds."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routegraph.stats.bootstrap import interval
from routegraph.stats.intervals import Interval
from routegraph.validate.prompts.prompt import Prompt

Labels = NDArray[np.int64]

#: Outer folds, on which a probe is judged; inner ones, within its training part, on which its strength is chosen.
FOLDS, INNER = 5, 3
#: Inverse strengths of the penalty to choose from.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RESAMPLES = 1000


def check_sklearn() -> None:
    """Raise ValueError, saying what to install, unless scikit-learn is there."""
    if importlib.util.find_spec("sklearn") is None:
        raise ValueError("linear probes need scikit-learn; install it with: pip install 'routegraph[probes]'")


@dataclass(frozen=True, eq=False)
class Probe:
    """What a probe said of each item when it had not seen that item's world.

    Attributes
    ----------
    labels, predicted : int64[n_items]
    groups : int64[n_items]
    """

    labels: Labels
    predicted: Labels
    groups: Labels

    def f1(self, seed: int = 0) -> Interval:
        """Return the macro-F1 with a 95 % interval, worlds resampled."""
        return interval(self._resampled(seed))

    def minus(self, other: Probe, seed: int = 0) -> Interval:
        """Return how much larger it is than another probe's of the same items, worlds resampled in pairs."""
        return interval(self._resampled(seed) - other._resampled(seed))

    def _resampled(self, seed: int) -> NDArray[np.float64]:
        """Return the macro-F1 of all worlds, then of resamples of them."""
        worlds, number = np.unique(self.groups, return_inverse=True)
        n_labels = int(self.labels.max()) + 1
        table = np.zeros((len(worlds), 3, n_labels))  # hits, labels, predictions
        for world, label, said in zip(number, self.labels, self.predicted, strict=True):
            table[world, 0, label] += label == said
            table[world, 1, label] += 1
            table[world, 2, said] += 1
        n = len(worlds)
        drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
        weights = np.vstack([np.ones((1, n)), drawn])
        hits, asked, told = np.moveaxis(np.tensordot(weights, table, 1), 1, 0)
        there = asked > 0  # a label that no resampled world has does not count
        f1 = 2 * hits / np.maximum(asked + told, 1)
        return np.asarray((f1 * there).sum(axis=1) / there.sum(axis=1))


def fit_probe(features: ArrayLike, labels: ArrayLike, groups: ArrayLike, *, seed: int = 0) -> Probe:
    """Predict the label of every item by a probe fitted to other worlds.

    Parameters
    ----------
    features : float[n_items, n_features]
    labels, groups : int[n_items]
        Labels 0, 1, ...; items of one group are never split between fitting and judging.
    seed : int
        Which worlds fall into which fold.

    Returns
    -------
    Probe

    Raises
    ------
    ValueError
        If scikit-learn is missing, shapes do not fit, or a label is known of fewer groups than there are folds.

    Notes
    -----
    Logistic regression with a squared penalty, labels weighted to count alike. Features are standardised by the
    training part and rotated onto the directions it spans, which changes nothing but the time it takes: the penalty
    is the same in all directions. Its strength is chosen by macro-F1 in grouped folds of the training part alone.
    """
    check_sklearn()
    x, y, g = np.asarray(features, dtype=np.float64), np.asarray(labels), np.asarray(groups)
    if x.ndim != 2 or not len(x) == len(y) == len(g):
        raise ValueError(f"features, labels and groups do not fit: {x.shape}, {y.shape}, {g.shape}")
    if not np.isfinite(x).all():
        raise ValueError("features must be finite numbers")
    if len(np.unique(y)) < 2:
        raise ValueError("at least two labels are needed")
    for label in np.unique(y):
        known = len(np.unique(g[y == label]))
        if known < FOLDS:
            raise ValueError(f"label {label} is known of {known} groups only; at least {FOLDS} are needed")
    predicted = np.empty(len(y), dtype=np.int64)
    for train, test in grouped_folds(y, g, FOLDS, seed):
        fitted = _rotated(x[train], x[test])
        strength = _strength(fitted[0], y[train], g[train], seed)
        predicted[test] = _fit(fitted[0], y[train], strength).predict(fitted[1])
    return Probe(y.astype(np.int64), predicted, g.astype(np.int64))


def grouped_folds(labels: Labels, groups: Labels, folds: int, seed: int) -> list[tuple[Labels, Labels]]:
    """Return training and test items of each fold; groups are never split, labels spread as evenly as may be."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels rarer than the inner folds
        return list(splitter.split(np.zeros(len(labels)), labels, groups))


def most_frequent(labels: Labels, groups: Labels) -> Probe:
    """Return the probe that always says the most frequent label."""
    return Probe(labels, np.full(len(labels), np.bincount(labels).argmax()), groups)


def shuffled(labels: Labels, groups: Labels, seed: int = 0) -> Labels:
    """Return labels dealt anew: worlds of one size, whose labels may hang together, exchange theirs.

    What is left is what a probe finds by chance.
    """
    random = np.random.default_rng(seed)
    worlds = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    made = labels.copy()
    for size in {len(world) for world in worlds}:
        alike = [world for world in worlds if len(world) == size]
        for world, other in zip(alike, random.permutation(len(alike)), strict=True):
            made[world] = random.permutation(labels[alike[other]])
    return made


def worlds(prompts: Sequence[Prompt]) -> Labels:
    """Return the world of each prompt: prompts of one context, and twins, are of one.

    Twins stand side by side and ask the same, of the same task; to one of the two the context gives no answer.
    """
    made: list[int] = []
    seen: dict[str, int] = {}
    for number, prompt in enumerate(prompts):
        before = prompts[number - 1] if number else None
        twin = (
            before is not None
            and (before.task, before.question, before.answer_prefix)
            == (prompt.task, prompt.question, prompt.answer_prefix)
            and before.answerable != prompt.answerable
        )
        world = seen.get(prompt.context, made[-1] if twin else max(made, default=-1) + 1)
        seen.setdefault(prompt.context, world)
        made.append(world)
    return np.array(made, dtype=np.int64)


def _rotated(train: NDArray[np.float64], test: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 1e-6 * max(float(spread.max(initial=0.0)), 1e-30), spread, np.inf)
    train, test = (train - mean) / spread, (test - mean) / spread
    if train.shape[1] <= len(train):
        return train, test
    _, values, directions = np.linalg.svd(train, full_matrices=False)
    directions = directions[values > 1e-9 * max(float(values[0]), 1e-30)]
    if not len(directions):
        return np.zeros((len(train), 1)), np.zeros((len(test), 1))
    return train @ directions.T, test @ directions.T


def _strength(x: NDArray[np.float64], y: Labels, g: Labels, seed: int) -> float:
    scores = np.zeros(len(STRENGTHS))
    parts = grouped_folds(y, g, INNER, seed)
    for place, strength in enumerate(STRENGTHS):
        predicted = np.empty(len(y), dtype=np.int64)
        for train, test in parts:
            predicted[test] = (
                _fit(x[train], y[train], strength).predict(x[test])
                if len(np.unique(y[train])) > 1
                else y[train][0]
            )
        hits = np.bincount(y[y == predicted], minlength=y.max() + 1)
        both = np.bincount(y, minlength=y.max() + 1) + np.bincount(predicted, minlength=y.max() + 1)
        scores[place] = (2 * hits / np.maximum(both, 1)).mean()
    return STRENGTHS[int(scores.argmax())]  # of equals the strongest penalty


def _fit(x: NDArray[np.float64], y: Labels, strength: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=300, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)
