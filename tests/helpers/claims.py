"""Made-up measurements for claims: items that are right up to a ratio of their own."""

from dataclasses import replace

import numpy as np

from tests.helpers.measured import synthetic

RATIOS = np.array([0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99])
NAMES = ("chunk", "adakv", "random")
#: 20 of 50 items are right at ratio 0.
FLOORED = np.where(np.arange(50) < 20, 0.95, -1)


def measured(breaks, metrics=None, names=NAMES, cliffs=None, aware=False, model="made up", told=None, **more):
    """Items that are right below a ratio of their own, float[n] or float[n, policies]; wrong ones are made up.

    told : further settings.
    """
    table = np.asarray(breaks, dtype=float)
    table = table[:, None] if table.ndim == 1 else table
    table = np.broadcast_to(table, (len(table), len(names)))
    right = np.asarray(table[..., None] > RATIOS)
    lengths = more.pop("lengths", None)
    found = synthetic(right, metrics or {}, ratios=RATIOS.tolist(), **more)
    settings = {"policies": list(names), "model": model, "question_aware": aware, **(told or {})}
    if aware:
        settings = {"asked_again": True, **settings}
    return replace(
        found,
        settings={**found.settings, **settings},
        cliffs={name: cliffs or {} for name in names},
        n_context=found.n_context if lengths is None else np.asarray(lengths),
    )


def normal(centre, spread, n=200, seed=0):
    """Ratios at which items break, near one ratio."""
    return np.clip(np.random.default_rng(seed).normal(centre, spread, n), 0.001, 2)


def uniform(n=200, seed=0):
    """Ratios at which items break, anywhere."""
    return np.random.default_rng(seed).uniform(0.001, 1, n)


def verdicts(claim):
    """The verdicts that occur among the cases of a claim."""
    return {case.verdict for case in claim.evidence}
