"""Running the replicates of a simulation of decoding: slot by slot, layer by layer, nothing held but sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routegraph.kernels import rng
from routegraph.kernels.reach import layer_pass
from routegraph.sim.decoding.parameters import Decoding
from routegraph.sim.decoding.policies import deaths
from routegraph.sim.ensembles import ensembles
from routegraph.sim.run import Progress, over_replicates
from routegraph.survival import Survival

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """What a simulation counted, by replicate.

    Attributes
    ----------
    ger, ger_layer, dead : float64[n_replicates, n_steps + 1]
        After each step, 0 first: the share of the prompt's tokens that are gone from every slot, from all heads of a
        layer (the mean over layers), and the share of their slots that are dead.
    held : float64[n_replicates, n_steps + 1]
        Tokens, the decoded ones too, that at least one slot holds.
    reach : float64[n_replicates, n_steps + 1]
        Share of the prompt's tokens that a query after each step still reaches.
    survival : float64[n_replicates, n_steps]
        Share of the decoded rows that a slot still has 0, 1, ... steps after their own.
    """

    ger: Curve
    ger_layer: Curve
    dead: Curve
    held: Curve
    reach: Curve
    survival: Curve


def death_table(parameters: Decoding, seed: int = 0, replicate: int = 0) -> NDArray[np.int32]:
    """Return the step at which each row of each slot dies, int32[n_layers, n_heads, n_prefill + steps].

    Rows are numbered as they come; steps + 1: never. A slot is alive at step t exactly when the row has come and its
    entry is greater than t, and takes 4 bytes.
    """
    key = rng.keys(rng.seed_sequence(seed, 0, replicate))[1]
    return np.array([_layer(parameters, key, layer) for layer in range(1, parameters.n_layers + 1)])


def survival_in_time(death: NDArray[np.int32], steps: int) -> Survival:
    """Return a table of deaths as a Survival whose levels are steps.

    Its ratios are t / (steps + 1): whatever works on a Survival (`reach_thresholds`, `ger`, a winning ticket) then
    answers "until which step" where it answers "up to which ratio" else.

    Parameters
    ----------
    death : int[n_layers, n_heads, n_rows]
        Of `death_table`, or some of its rows.
    steps : int
        Number of steps.
    """
    return Survival(death, np.arange(1, steps + 1) / (steps + 1))


def run(
    parameters: Decoding,
    replicates: int,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Curves:
    """Run all replicates over threads; the result does not depend on their number."""
    done = over_replicates(
        lambda replicate: _replicate(parameters, seed, replicate), replicates, workers, progress
    )
    return Curves(*(np.array([one[name] for one in done]) for name in Curves.__dataclass_fields__))


def _layer(parameters: Decoding, key: np.uint64, layer: int) -> NDArray[np.int32]:
    """Return the deaths of one layer, int32[n_heads, n_rows]."""
    own = dict(parameters.policy_parameters)
    return np.array(
        [
            deaths(parameters.policy, parameters.slot(key, layer, head), **own)
            for head in range(parameters.n_heads)
        ]
    )


def _replicate(parameters: Decoding, seed: int, replicate: int) -> dict[str, Curve]:
    p = parameters
    n, steps = p.n_prefill, p.steps
    edge_key, key = rng.keys(rng.seed_sequence(seed, 0, replicate))
    last = np.zeros(n + steps, np.int32)
    gone_layer, dead, lives = (np.zeros(steps + 2, np.int64) for _ in range(3))
    # The query's value is one more than the last step: what it reaches at a value v it reaches at steps below v.
    value, below = np.zeros(n + 1, np.int32), np.zeros(n + 1, np.int32)
    value[n] = steps + 1
    best = np.zeros((n + 1) * p.n_heads, np.int32)
    came = np.arange(1, steps + 1)
    for layer in range(p.n_layers, 0, -1):
        death = _layer(p, key, layer)
        of_layer = death.max(axis=0)
        np.maximum(last, of_layer, out=last)
        gone_layer += np.bincount(of_layer[:n], minlength=steps + 2)
        dead += np.bincount(death[:, :n].ravel(), minlength=steps + 2)
        lives += np.bincount((death[:, n:] - came).ravel(), minlength=steps + 2)
        edges = ensembles["uniform"](edge_key, layer, n_tokens=n + 1, n_heads=p.n_heads, degree=p.degree)
        layer_pass(
            value, below, best, edges.indptr, edges.slots, np.ascontiguousarray(death[:, :n]), False, True
        )
        value, below = below, value
    gone = np.cumsum(np.bincount(last, minlength=steps + 2))[: steps + 1]
    until = np.bincount(value[:n], minlength=steps + 2)
    # A row of age a is there if it lives longer than a; of that age are the rows of all but the last a steps.
    longer = lives.sum() - np.cumsum(lives)[:steps]
    return {
        "ger": np.cumsum(np.bincount(last[:n], minlength=steps + 2))[: steps + 1] / n,
        "ger_layer": np.cumsum(gone_layer)[: steps + 1] / (n * p.n_layers),
        "dead": np.cumsum(dead)[: steps + 1] / (n * p.slots),
        "held": n + np.arange(steps + 1) - gone,
        "reach": 1 - np.cumsum(until)[: steps + 1] / n,
        "survival": longer / (p.slots * (steps - np.arange(steps))),
    }
