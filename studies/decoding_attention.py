"""Attention of replies as the simulator of decoding would have it: estimated by moments, and replayed as it is.

Nothing here is fitted to survival. What a row's attention is made of is estimated in three ways:

- `estimated`: spread, persistence, decay and score correlation, one of each for all slots, on rows of the prompt;
- `by_age`: spread, persistence, the share that lasts and a boost by age, on decoded rows, once for each unit that a
  policy decides for by itself;
- `by_class`: the same, and spread, persistence and lasting share of the prompt's rows, which get no boost.

`replayed` has no law of attention: a policy cuts by what was recorded with the cache whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.sim.decoding.parameters import STEEPEST
from routegraph.validate.decoding.evicting import write
from routegraph.validate.decoding.written import WHOLE
from routegraph.validate.models.load import Loaded
from routegraph.validate.prompts.tokens import Asked

#: Rows at the start of a context that take attention whatever they say; the simulator has none, and they are left out.
SINKS = 4
#: Steps apart at which popularities are compared.
LAGS = (1, 2, 4, 8, 16, 32)
#: Persistences among which the one of least squares is looked for.
PERSISTENCES = np.concatenate([np.linspace(0, 0.99, 100), 1 - np.geomspace(0.0099, 1e-5, 100)])
#: Attention below it counts as this.
LEAST = 1e-8
#: Ages at which the boost may change.
AGES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
#: Residuals are taken of queries that see so many decoded rows, for what all rows share is their mean.
ENOUGH = 32


@contextmanager
def eager(network: Any) -> Iterator[None]:
    """Let a model tell its attention weights."""
    before = network.config._attn_implementation
    network.config._attn_implementation = "eager"
    try:
        yield
    finally:
        network.config._attn_implementation = before


def attention(model: Loaded, asked: Asked, steps: int) -> NDArray[np.float64]:
    """Return what all tokens of prompt and reply give to all rows, float64[n_slots, n_rows, n_rows], means of a group.

    The reply is written with the cache whole; its last token is not there.
    """
    import torch

    (whole,) = write(model, asked.context, asked.question, [WHOLE], steps)
    ids = np.concatenate([asked.context, asked.question, whole.token_ids[:-1]])
    with torch.no_grad(), eager(model.model):
        layers = model.model(torch.from_numpy(ids)[None], output_attentions=True).attentions
    slots = [one[0].unflatten(0, (model.n_heads, -1)).mean(1) for one in layers]
    return np.asarray(torch.cat(slots).double())


def prompt_heights(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return logarithms of the weights of the rows that all queries see, sinks aside, less each query's mean.

    float64[n_units, n_queries, n_rows - n_queries - SINKS].
    """
    n_queries, n = weights.shape[1:]
    logs = np.log(np.maximum(weights[:, :, SINKS : n - n_queries], LEAST))
    above: NDArray[np.float64] = logs - logs.mean(axis=2, keepdims=True)
    return above


def residuals(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the heights of the prompt's rows without the slope with age, and that slope."""
    logs = prompt_heights(weights)
    rows = np.arange(logs.shape[2])
    age = -(rows - rows.mean())  # of rows beside each other; the mean over them falls out
    slope = float((logs * age).mean() / (age**2).mean())
    return logs - slope * age, slope


def estimated(tables: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    """Return spread, persistence, decay and score correlation of the attention of some replies, by moments.

    Spread: standard deviation of the residuals. Correlation: of a token's residuals in two slots. Persistence: least
    squares of c + (1 - c) p**lag to the correlations of one row's residuals some steps apart. Means over replies.
    """
    found = [residuals(one) for one in tables]
    variance = np.mean([(part**2).mean() for part, _ in found])
    shared, by_lag = [], []
    for part, _ in found:
        m = len(part)
        sd = np.sqrt((part**2).mean(axis=2, keepdims=True))
        unit = part / np.maximum(sd, 1e-12)
        total = (unit.sum(axis=0) ** 2).mean()  # m of the same slot, m (m - 1) of two
        shared.append((total - (unit**2).sum(axis=0).mean()) / (m * (m - 1)))
        by_lag.append([(unit[:, lag:] * unit[:, :-lag]).mean() for lag in LAGS])
    c = float(np.clip(np.mean(shared), 0, 1))
    wanted = np.mean(by_lag, axis=0)
    grid = np.append(PERSISTENCES, 1.0)
    misfit = [((c + (1 - c) * p ** np.array(LAGS) - wanted) ** 2).sum() for p in grid]
    return {
        "spread": float(np.sqrt(variance)),
        "persistence": float(grid[int(np.argmin(misfit))]),
        "decay": float(np.clip(np.mean([-slope for _, slope in found]), 0, 10)),
        "score_correlation": c,
        "misfit": float(np.sqrt(min(misfit) / len(LAGS))),
    }


def by_age(tables: Sequence[NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Return spread, persistence, lasting and recency of each unit of some replies' attention, by moments.

    A row's height is the logarithm of its attention over the mean of the prompt's rows, sinks aside, for that query.
    Boost: mean height of the decoded rows from an age of `AGES` to the next, every (query, row) of as much weight.
    Residuals: heights without the boost and without each query's mean over decoded rows, of queries with `ENOUGH`.
    Spread: their standard deviation. Persistence p and lasting l: least squares of l + (1 - l) p**lag to the
    correlations of one row's residuals some steps apart.
    """
    found = [_decoded_heights(one) for one in tables]
    q = found[0].shape[1]
    age = np.arange(q)[:, None] - np.arange(q)  # [query, row]
    ages = np.array([one for one in AGES if one < q])
    step = np.searchsorted(ages, age, side="right") - 1
    boosts = np.array(
        [np.mean([one[:, step == k].mean(axis=1) for one in found], axis=0) for k in range(len(ages))]
    )
    parts = [_residuals_by_age(one - boosts[step].transpose(2, 0, 1), age) for one in found]
    units = []
    for unit, law in enumerate(laws(parts)):
        told = zip(ages, np.clip(boosts[:, unit], -STEEPEST, STEEPEST), strict=True)
        recency = ",".join(f"{at}:{boost:.4g}" for at, boost in told)
        units.append({**asdict(law), "decay": 0.0, "recency": recency})
    return units


def by_class(tables: Sequence[NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Return what `by_age` does, and spread, persistence and lasting of the prompt's rows, by the same moments.

    Of the attention that the reply gives them: see `prompt_heights`.
    """
    found = laws([prompt_heights(one) for one in tables])
    apart = [f"{law.spread:.4g},{law.persistence:.5g},{law.lasting:.4g}" for law in found]
    return [{**unit, "prompt_rows": rows} for unit, rows in zip(by_age(tables), apart, strict=True)]


@dataclass(frozen=True)
class Law:
    """How the heights of rows vary: their standard deviation, and l + (1 - l) p**lag, by which they are correlated."""

    spread: float
    persistence: float
    lasting: float
    misfit: float


def laws(parts: Sequence[NDArray[np.float64]]) -> list[Law]:
    """Return the law of each unit by least squares, of heights float64[n_units, n_queries, n_rows] of some replies."""
    variance = np.nanmean([np.nanmean(one**2, axis=(1, 2)) for one in parts], axis=0)
    lags = [lag for lag in LAGS if lag < parts[0].shape[1]]
    together = [np.mean([np.nanmean(r[:, s:] * r[:, :-s], axis=(1, 2)) for r in parts], axis=0) for s in lags]
    share = np.linspace(0, 1, 101)[:, None]
    curves = share + (1 - share) * PERSISTENCES ** np.array(lags)[:, None, None]  # [lag, share, persistence]
    found = []
    for unit, correlations in enumerate(np.array(together).T / np.maximum(variance, 1e-12)[:, None]):
        misfit = ((curves - correlations[:, None, None]) ** 2).mean(axis=0)
        lasting, persistence = np.unravel_index(int(np.argmin(misfit)), misfit.shape)
        spread = float(np.sqrt(min(variance[unit], 100)))
        found.append(
            Law(
                spread,
                float(PERSISTENCES[persistence]),
                float(share[lasting, 0]),
                float(np.sqrt(misfit.min())),
            )
        )
    return found


def _decoded_heights(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the heights of decoded rows, float64[n_units, n_queries, n_queries]; those that are not yet are 0."""
    q, n = weights.shape[1:]
    logs = np.log(np.maximum(weights, LEAST))
    above = logs[:, :, n - q :] - logs[:, :, SINKS : n - q].mean(axis=2, keepdims=True)
    return np.tril(above)


def _residuals_by_age(heights: NDArray[np.float64], age: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return heights of the queries with `ENOUGH` rows, without the mean of each; NaN where a row is not yet."""
    there = np.where(age >= 0, heights, np.nan)[:, ENOUGH:]
    residual: NDArray[np.float64] = there - np.nanmean(there, axis=2, keepdims=True)
    return residual


def replayed(policy: str, attention: NDArray[np.float64], n_prefill: int, budget: int) -> NDArray[np.int64]:
    """Let a policy cut a cache by attention that was recorded where nothing was cut, written down plainly.

    Parameters
    ----------
    policy : {"h2o", "tova"}
    attention : float64[n_units, n_rows, n_rows]
        What the query of each row gives to each; queries give what they gave the dead to those that are left.
    n_prefill, budget : int
        Rows before step 1; rows that every step leaves.

    Returns
    -------
    int64[n_units, n_rows]
        The step at which each row dies, one beyond the last if it never does.
    """
    n = attention.shape[1]
    death = np.full((len(attention), n), n - n_prefill + 1)
    given = attention[:, :n_prefill].sum(axis=1)  # by the prompt's queries, while all is there
    window = int(0.5 * budget) if policy == "h2o" else 1
    for time in range(n_prefill, n):
        alive = (death == n - n_prefill + 1) & (np.arange(n) <= time)
        now = np.where(alive, attention[:, time], 0)
        given += now / now.sum(axis=1, keepdims=True)
        worth = np.where(alive, given if policy == "h2o" else now, np.inf)
        worth[:, time - window + 1 :] = np.inf
        gone = max(0, int(alive[0].sum()) - budget)
        for unit, rows in enumerate(np.argsort(worth, axis=1, kind="stable")[:, :gone]):
            death[unit, rows] = time - n_prefill + 1
    return death
