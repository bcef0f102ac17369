"""Survival by age of rows that a model decoded, beside the simulator and theory: docs/guide/decoding.md.

``python -m studies.decoding_survival [MODEL ...]`` writes table and figure: two minutes for each tiny model,
more for the others. It writes those named, and only those.

Half of the prompts are measured: a reply of so many steps under each policy. From the other half, whose replies are
written with the cache whole, the simulator's attention is estimated (`studies.decoding_attention`); nothing of it is
fitted to survival. Beside the measured curve stand

- *replayed*: the policy cuts by the attention of the measured prompts' own replies as it was with the cache whole: all
  that could be known of attention but for what eviction does to it;
- *four numbers*, *by age*, *by class*: the simulator with attention of these laws. By age and by class each unit that a
  policy decides for by itself has numbers of its own and is simulated alone: a slot under `h2o`, a layer (the mean over
  its heads) under `tova`, as kvpress does it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import plot
from routegraph.sim.decoding.simulate import simulate_decoding
from routegraph.stats.intervals import standard_error
from routegraph.validate.decoding.evicting import write
from routegraph.validate.decoding.written import Cutting, survival_by_age
from routegraph.validate.models.load import Loaded, load, use_threads
from routegraph.validate.prompts.asking import PLAIN
from routegraph.validate.prompts.tokens import Asked, tokenise
from routegraph.validate.tasks import load_task
from studies.decoding_attention import attention, by_age, by_class, estimated, replayed
from studies.pages import DOCS, markdown, put_between

PAGE = DOCS / "guide" / "decoding.md"
BEGIN, END = "<!-- table: written by studies/decoding_survival.py -->", "<!-- end of table -->"
POLICIES = ("random", "streaming", "h2o", "tova")
COLOURS = dict(zip(POLICIES, ("blue", "blue", "red", "red"), strict=True))
#: Panels that have room for a legend, which is that of the panel beside it, too.
LEGENDS = ("random", "h2o")
#: Policies that attention decides for, and whether they decide for a layer as a whole.
DECIDED = {"h2o": False, "tova": True}
#: Ages whose boost the page tells.
SHOWN = ("0", "1", "4", "16", "64", "128")
#: Laws of attention, of units that are simulated each alone, by name and colour.
LAWS = {"by age": (by_age, "purple"), "by class": (by_class, "sky")}
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
    "smollm2": Setting("each_person", 150, 8, 96, 128, (0, 4, 16, 32, 64, 112)),
    "qwen2.5-coder-0.5b": Setting("each_person", 150, 4, 96, 128, (0, 4, 16, 32, 64, 112)),
}


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


def told_of_units(policy: str, units: Sequence[dict[str, Any]]) -> str:
    """Return the mean numbers of the units of a policy in words."""
    boosts = np.mean(
        [[float(p.partition(":")[2]) for p in unit["recency"].split(",")] for unit in units], axis=0
    )
    ages = [pair.partition(":")[0] for pair in units[0]["recency"].split(",")]
    rise = ", ".join(f"{boost:.1f} at {age}" for age, boost in zip(ages, boosts, strict=True) if age in SHOWN)
    mean = {
        key: np.mean([unit[key] for unit in units]) for key in ("spread", "persistence", "lasting", "misfit")
    }
    prompt = np.mean([[float(number) for number in unit["prompt_rows"].split(",")] for unit in units], axis=0)
    return (
        f"units of `{policy}`, means over {len(units)} {'layers' if DECIDED[policy] else 'slots'}: boost {rise}; "
        f"spread {mean['spread']:.2f}, lasting {mean['lasting']:.2f}, persistence {mean['persistence']:.2f}; "
        f"correlations by lag are missed by {mean['misfit']:.2f}; rows of the prompt: spread {prompt[0]:.2f}, "
        f"lasting {prompt[2]:.2f}, persistence {prompt[1]:.2f}"
    )


def survived(model: Loaded, asked: Sequence[Asked], one: Setting) -> NDArray[np.float64]:
    """Return the share of decoded rows that a slot still has by age, float64[n_prompts, n_policies, steps]."""
    cuttings = [Cutting(policy, one.budget) for policy in POLICIES]
    found = []
    for number, each in enumerate(asked):
        written = write(model, each.context, each.question, cuttings, one.steps, seed=number)
        found.append([np.divide(*survival_by_age(reply.death, reply.n_prefill)) for reply in written])
    return np.array(found)


def decided_in(table: NDArray[np.float64], model: Loaded, layer: bool) -> NDArray[np.float64]:
    """Return attention by the units that a policy decides for: slots, or means over the heads of a layer."""
    if not layer:
        return table
    mean: NDArray[np.float64] = table.reshape(model.n_layers, -1, *table.shape[1:]).mean(axis=1)
    return mean


def replayed_survival(model: Loaded, asked: Sequence[Asked], one: Setting) -> dict[str, NDArray[np.float64]]:
    """Return survival by age under each policy that attention decides for, replayed; float64[n_prompts, steps] each."""
    found: dict[str, list[NDArray[np.float64]]] = {policy: [] for policy in DECIDED}
    for each in asked:
        table, n_prefill = attention(model, each, one.steps), prefill_of(each)
        for policy, layer in DECIDED.items():
            death = replayed(policy, decided_in(table, model, layer), n_prefill, one.budget)
            found[policy].append(np.divide(*survival_by_age(death, n_prefill)))
    return {policy: np.array(curves) for policy, curves in found.items()}


def prefill_of(asked: Asked) -> int:
    """Return how many rows are there before the first step, whose own is the question's last token."""
    return len(asked.context) + len(asked.question) - 1


@dataclass(frozen=True, eq=False)
class Told:
    """A curve of survival by age: what it is called, its mean and standard error, its colour in the figure."""

    name: str
    mean: NDArray[np.float64]
    error: NDArray[np.float64]
    colour: str

    @classmethod
    def of(cls, name: str, curves: NDArray[np.float64], colour: str) -> Told:
        """Return mean and error of curves, float64[n, steps]."""
        return cls(name, curves.mean(axis=0), standard_error(curves), colour)


def study(name: str, axes: Sequence[Any]) -> tuple[str, list[list[str]]]:
    """Measure, estimate, simulate; draw, and return what was estimated in words, and the rows of the table."""
    one, model = SETTINGS[name], load(name)
    model.model.generation_config.eos_token_id = None  # so that all replies are as long
    prompts = load_task(one.task, 2 * one.prompts, 11, one.length)
    asked = [tokenise(model, prompt, PLAIN) for prompt in prompts]
    others, own = asked[: one.prompts], asked[one.prompts :]
    tables = [attention(model, each, one.steps)[:, 1 - one.steps :] for each in others]
    known = estimated(tables)
    of_units = {
        policy: [decided_in(table, model, layer) for table in tables] for policy, layer in DECIDED.items()
    }
    units = {(p, law): make(of_units[p]) for p in DECIDED for law, (make, _) in LAWS.items()}
    told = "; ".join(told_of_units(policy, units[policy, "by class"]) for policy in DECIDED)
    misfit = known.pop("misfit")
    numbers = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in known.items())
    told = f"four numbers: {numbers}; correlations by lag are missed by {misfit:.2f}; {told}"
    print(name, told, flush=True)
    measured, whole = survived(model, own, one), replayed_survival(model, own, one)
    n_prefill = round(float(np.mean([prefill_of(each) for each in own])))
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
        curves = [Told.of("measured", measured[:, place], COLOURS[policy])]
        if policy in DECIDED:
            curves.append(Told.of("replayed", whole[policy], "green"))
        four = "simulated, four numbers" if policy in DECIDED else "simulated"
        curves.append(Told(four, *simulated.estimate(policy, "survival", ages), "orange"))
        for law, (_, colour) in LAWS.items() if policy in DECIDED else ():
            by_unit = simulated_by_unit(policy, units[policy, law], one, n_prefill)
            curves.append(Told.of(f"simulated, {law}", by_unit, colour))
        ax = axes[place]
        for curve in curves:
            band = 2 * curve.error
            plot.band(ax, ages, curve.mean, band, color=plot.COLOURS[curve.colour], label=curve.name)
            cells = [f"{100 * curve.mean[k]:.1f} ± {100 * curve.error[k]:.1f}" for k in one.ages]
            lines.append(["" if lines and curve is not curves[0] else policy, curve.name, *cells])
        theory = simulated.theory(policy, "survival", ages)
        if theory is not None:
            ax.plot(ages, theory, "k:", label="theory")
            lines.append(["", "theory", *(f"{100 * theory[k]:.1f}" for k in one.ages)])
        ax.set(title=f"{name}, {policy}", xlabel="age, steps", ylabel="slots alive", ylim=(-0.03, 1.03))
        if policy in LEGENDS:
            ax.legend(fontsize="x-small", loc="upper right")
    return told, lines


def main(models: Sequence[str]) -> None:
    """Write table and figure."""
    use_threads(1)
    figure, axes = plot.figure(len(models), len(POLICIES), 3.2, 2.6)
    rows: list[str] = []
    for number, name in enumerate(models):
        told, lines = study(name, np.ravel(axes)[number * len(POLICIES) : (number + 1) * len(POLICIES)])
        one = SETTINGS[name]
        rows.append(
            f"**{name}**: {one.prompts} prompts of `{one.task}`, {one.steps} steps, budget {one.budget}; {told}.\n\n"
            + markdown(["policy", "", *(f"age {age}" for age in one.ages)], lines)
        )
    plot.save(figure, DOCS / "decoding_survival.svg")
    put_between(PAGE, BEGIN, "\n\n".join(rows), END)


if __name__ == "__main__":
    main(sys.argv[1:] or list(SETTINGS))
