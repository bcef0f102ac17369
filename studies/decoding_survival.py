"""Survival by age of rows that a model decoded, beside the simulator and theory: docs/guide/decoding.md.

``python -m studies.decoding_survival [MODEL ...]`` writes table and figure: two minutes for each tiny model,
more for the others. It writes those named, and only those.

Half of the prompts are measured: a reply of so many steps under each policy. From the other half, whose replies are
written with the cache whole, the simulator's attention is estimated, by moments of the logarithms of the attention that
decoded tokens give to what came before; nothing of it is fitted to survival. It is done in two ways:

- *four numbers*: spread, persistence, decay and score correlation, one of each for all slots, on rows of the prompt;
- *by age*: spread, persistence, the share that lasts and a boost by age, on decoded rows, once for each unit that a
  policy decides for by itself: a slot under `h2o`, a layer (the mean over its heads) under `tova`, as kvpress does it.
  Each unit is then simulated alone. `by_age` says how they are estimated.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import plot
from routegraph.sim.decoding.parameters import STEEPEST
from routegraph.sim.decoding.simulate import simulate_decoding
from routegraph.stats.intervals import standard_error
from routegraph.validate.decoding.evicting import write
from routegraph.validate.decoding.written import WHOLE, Cutting, survival_by_age
from routegraph.validate.models.load import Loaded, load, use_threads
from routegraph.validate.prompts.asking import PLAIN
from routegraph.validate.prompts.tokens import Asked, tokenise
from routegraph.validate.tasks import load_task
from studies.pages import DOCS, markdown, put_between

PAGE = DOCS / "guide" / "decoding.md"
BEGIN, END = "<!-- table: written by studies/decoding_survival.py -->", "<!-- end of table -->"
POLICIES = ("random", "streaming", "h2o", "tova")
COLOURS = dict(zip(POLICIES, ("blue", "green", "red", "black"), strict=True))
#: Rows at the start of a context that take attention whatever they say; the simulator has none, and they are left out.
SINKS = 4
#: Steps apart at which popularities are compared.
LAGS = (1, 2, 4, 8, 16, 32)
#: Attention below it counts as this.
LEAST = 1e-8
#: Policies that attention decides for, and whether they decide for a layer as a whole.
DECIDED = {"h2o": False, "tova": True}
#: Ages at which the boost may change.
AGES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
#: Residuals are taken of queries that see so many decoded rows, for what all rows share is their mean.
ENOUGH = 32
#: Ages whose boost the page tells.
SHOWN = ("0", "1", "4", "16", "64", "128")
#: Replicates of a unit that is simulated alone.
REPLICATES = 32


@dataclass(frozen=True)
class Setting:
    """What a model is asked: which task, contexts of which length, how many prompts of each half; budget and steps."""

    task: str
    length: int | None
    prompts: int
    budget: int
    steps: int
    ages: tuple[int, ...]


SETTINGS = {
    "llama-tiny": Setting("words_forward", 90, 8, 64, 192, (0, 4, 16, 32, 64, 128)),
    "qwen-tiny": Setting("words_forward", 90, 8, 64, 192, (0, 4, 16, 32, 64, 128)),
    "smollm2": Setting("each_person", 150, 3, 96, 128, (0, 4, 16, 32, 64, 112)),
    "qwen2.5-coder-0.5b": Setting("each_person", 150, 2, 96, 128, (0, 4, 16, 32, 64, 112)),
}


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
    """Return what a reply's tokens give to all rows, float64[n_slots, steps - 1, n_rows], means of a group."""
    import torch

    (whole,) = write(model, asked.context, asked.question, [WHOLE], steps)
    ids = np.concatenate([asked.context, asked.question, whole.token_ids[:-1]])
    with torch.no_grad(), eager(model.model):
        layers = model.model(torch.from_numpy(ids)[None], output_attentions=True).attentions
    slots = [one[0, :, -(steps - 1) :].unflatten(0, (model.n_heads, -1)).mean(1) for one in layers]
    return np.asarray(torch.cat(slots).double())


def residuals(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the logarithms of weights without each query's mean and the slope with age, and that slope.

    Over the rows that all queries see, sinks aside; float64[n_slots, n_queries, n_rows].
    """
    n_queries, n = weights.shape[1:]
    rows = np.arange(SINKS, n - n_queries)
    logs = np.log(np.maximum(weights[:, :, rows], LEAST))
    logs = logs - logs.mean(axis=2, keepdims=True)
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
    grid = np.concatenate([np.linspace(0, 0.99, 100), 1 - np.geomspace(0.0099, 1e-5, 100), [1.0]])
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
    variance = np.nanmean([np.nanmean(one**2, axis=(1, 2)) for one in parts], axis=0)
    lags = [lag for lag in LAGS if lag < q - ENOUGH]
    together = [np.mean([np.nanmean(r[:, s:] * r[:, :-s], axis=(1, 2)) for r in parts], axis=0) for s in lags]
    grid = np.concatenate([np.linspace(0, 0.99, 100), 1 - np.geomspace(0.0099, 1e-5, 100)])
    share = np.linspace(0, 1, 101)[:, None]
    law = share + (1 - share) * grid ** np.array(lags)[:, None, None]  # [lag, share, persistence]
    units = []
    for unit, correlations in enumerate(np.array(together).T / np.maximum(variance, 1e-12)[:, None]):
        misfit = ((law - correlations[:, None, None]) ** 2).mean(axis=0)
        lasting, persistence = np.unravel_index(int(np.argmin(misfit)), misfit.shape)
        told = zip(ages, np.clip(boosts[:, unit], -STEEPEST, STEEPEST), strict=True)
        units.append(
            {
                "spread": float(np.sqrt(min(variance[unit], 100))),
                "persistence": float(grid[persistence]),
                "lasting": float(share[lasting, 0]),
                "decay": 0.0,
                "recency": ",".join(f"{at}:{boost:.4g}" for at, boost in told),
                "misfit": float(np.sqrt(misfit.min())),
            }
        )
    return units


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


def simulated_by_unit(
    policy: str, units: Sequence[dict[str, Any]], one: Setting, n_prefill: int
) -> NDArray[np.float64]:
    """Return survival by age, the mean over units that are simulated each alone, float64[n_replicates, steps]."""
    alone = {"n_prefill": n_prefill, "steps": one.steps, "budget": one.budget, "n_layers": 1, "n_heads": 1}
    curves = []
    for seed, unit in enumerate(units):
        known = {key: value for key, value in unit.items() if key != "misfit"}
        result = simulate_decoding(policy, replicates=REPLICATES, seed=seed, **alone, **known)
        curves.append(result.curves[0].survival)
    return np.mean(curves, axis=0)


def told_by_age(policy: str, units: Sequence[dict[str, Any]]) -> str:
    """Return the mean numbers of the units of a policy in words."""
    boosts = np.mean(
        [[float(p.partition(":")[2]) for p in unit["recency"].split(",")] for unit in units], axis=0
    )
    ages = [pair.partition(":")[0] for pair in units[0]["recency"].split(",")]
    rise = ", ".join(f"{boost:.1f} at {age}" for age, boost in zip(ages, boosts, strict=True) if age in SHOWN)
    mean = {
        key: np.mean([unit[key] for unit in units]) for key in ("spread", "persistence", "lasting", "misfit")
    }
    return (
        f"by age for `{policy}`, means over {len(units)} {'layers' if DECIDED[policy] else 'slots'}: boost {rise}; "
        f"spread {mean['spread']:.2f}, lasting {mean['lasting']:.2f}, persistence {mean['persistence']:.2f}; "
        f"correlations by lag are missed by {mean['misfit']:.2f}"
    )


def survived(model: Loaded, asked: Sequence[Asked], one: Setting) -> NDArray[np.float64]:
    """Return the share of decoded rows that a slot still has by age, float64[n_prompts, n_policies, steps]."""
    cuttings = [Cutting(policy, one.budget) for policy in POLICIES]
    found = []
    for number, each in enumerate(asked):
        written = write(model, each.context, each.question, cuttings, one.steps, seed=number)
        found.append([np.divide(*survival_by_age(reply)) for reply in written])
    return np.array(found)


def study(name: str, axes: Sequence[Any]) -> list[list[str]]:
    """Measure, estimate, simulate; draw, and return the rows of the table."""
    one, model = SETTINGS[name], load(name)
    model.model.generation_config.eos_token_id = None  # so that all replies are as long
    prompts = load_task(one.task, 2 * one.prompts, 11, one.length)
    asked = [tokenise(model, prompt, PLAIN) for prompt in prompts]
    others, own = asked[: one.prompts], asked[one.prompts :]
    tables = [attention(model, each, one.steps) for each in others]
    known = estimated(tables)
    layers = [table.reshape(model.n_layers, -1, *table.shape[1:]).mean(axis=1) for table in tables]
    units = {policy: by_age(layers if layer else tables) for policy, layer in DECIDED.items()}
    for policy in units:
        print(name, told_by_age(policy, units[policy]), flush=True)
    misfit = known.pop("misfit")
    print(name, {key: round(value, 4) for key, value in known.items()}, f"misfit {misfit:.3f}", flush=True)
    measured = survived(model, own, one)
    n_prefill = round(float(np.mean([len(each.context) + len(each.question) - 1 for each in own])))
    simulated = simulate_decoding(
        POLICIES,
        n_prefill=n_prefill,
        steps=one.steps,
        budget=one.budget,
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        replicates=8,
        seed=1,
        **known,
    )
    lines, ages = [], np.arange(one.steps)
    for place, policy in enumerate(POLICIES):
        mean, error = measured[:, place].mean(axis=0), standard_error(measured[:, place])
        sim, sim_error = simulated.estimate(policy, "survival", ages)
        theory = simulated.theory(policy, "survival", ages)
        ax, colour = axes[place], plot.COLOURS[COLOURS[policy]]
        plot.band(ax, ages, mean, 2 * error, color=colour, label="measured")
        plot.band(ax, ages, sim, 2 * sim_error, color=plot.COLOURS["orange"], label="simulated")
        if theory is not None:
            ax.plot(ages, theory, "k:", label="theory")
        ax.set(title=f"{name}, {policy}", xlabel="age, steps", ylabel="slots alive", ylim=(-0.03, 1.03))
        at = list(one.ages)
        cells = [f"{100 * mean[k]:.1f} ± {100 * error[k]:.1f}" for k in at]
        lines.append([name, policy, "measured", *cells])
        cells = [f"{100 * sim[k]:.1f} ± {100 * sim_error[k]:.1f}" for k in at]
        four = "simulated, four numbers" if policy in DECIDED else "simulated"
        lines.append(["", "", four, *cells])
        if policy in DECIDED:
            curves = simulated_by_unit(policy, units[policy], one, n_prefill)
            aged, aged_error = curves.mean(axis=0), standard_error(curves)
            plot.band(ax, ages, aged, 2 * aged_error, color=plot.COLOURS["purple"], label="simulated, by age")
            cells = [f"{100 * aged[k]:.1f} ± {100 * aged_error[k]:.1f}" for k in at]
            lines.append(["", "", "simulated, by age", *cells])
        if theory is not None:
            lines.append(["", "", "theory", *(f"{100 * theory[k]:.1f}" for k in at)])
    for ax in (axes[0], axes[-1]):
        ax.legend(fontsize="small")
    told = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in known.items())
    aged_told = "; ".join(told_by_age(policy, units[policy]) for policy in units)
    lines.append(
        [
            name,
            f"four numbers: {told}; correlations by lag are missed by {misfit:.2f}; {aged_told}",
            *[""] * 7,
        ]
    )
    return lines


def main(models: Sequence[str]) -> None:
    """Write table and figure."""
    use_threads(1)
    figure, axes = plot.figure(len(models), len(POLICIES), 3.2, 2.6)
    rows: list[str] = []
    for number, name in enumerate(models):
        lines = study(name, np.ravel(axes)[number * len(POLICIES) : (number + 1) * len(POLICIES)])
        one, told = SETTINGS[name], lines.pop()
        rows.append(
            f"**{name}**: {one.prompts} prompts of `{one.task}`, {one.steps} steps, budget {one.budget}; {told[1]}.\n\n"
            + markdown(["policy", "", *(f"age {age}" for age in one.ages)], [line[1:] for line in lines])
        )
    plot.save(figure, DOCS / "decoding_survival.svg")
    put_between(PAGE, BEGIN, "\n\n".join(rows), END)


if __name__ == "__main__":
    main(sys.argv[1:] or ["llama-tiny", "qwen-tiny", "smollm2"])
