"""A prompt kept apart from what is decoded (SCOPE) beside one cache for both, at equal rows: simulated.

Wu, Wang, Zhang, Lai, He and Zhou (2025), arXiv 2412.13649: see README.md beside this file.
"""

import sys

import numpy as np

from routegraph import plot
from routegraph.sim.decoding.parameters import Decoding
from routegraph.sim.decoding.policies.scope import STRATEGIES, room
from routegraph.sim.decoding.simulate import simulate_decoding

PROMPT, STEPS, DECODED = 512, 2048, 256
MODEL = {
    "n_prefill": PROMPT,
    "steps": STEPS,
    "n_layers": 8,
    "n_heads": 4,
    "decay": 0.0,
    "replicates": 8,
    "seed": 2412,
}
#: How long a popular row stays popular: for good, about 500 steps, about 50 steps.
PERSISTENCE = (1.0, 0.998, 0.98)
ONE_CACHE = ("random", "h2o", "tova", "treekv")
COLOURS = {"random": "blue", "h2o": "green", "tova": "purple", "treekv": "red", "scope": "orange"}


def at_equal_rows(persistence):
    """Return SCOPE with a decode budget beside its prompt, and one cache of as many rows in all."""
    apart = simulate_decoding("scope", budget=DECODED, persistence=persistence, **MODEL)
    together = simulate_decoding(ONE_CACHE, budget=PROMPT + DECODED, persistence=persistence, **MODEL)
    return {"scope": apart, **dict.fromkeys(ONE_CACHE, together)}


def told(result, policy, name, at):
    mean, error = result.estimate(policy, name, [at])
    return f"{mean[0]:.3f}({error[0]:.3f})"


def strategies():
    """Mean and largest number of decoded rows a slot holds, and at how many steps rows are chosen: exact."""
    slot = Decoding(n_prefill=PROMPT, steps=STEPS, budget=DECODED).slot(np.uint64(0), 1, 0)
    for strategy in STRATEGIES:
        most = room(slot, 0.25, strategy)
        held, cuts = [], 0
        for step in range(STEPS):
            there = (held[-1] if held else 0) + 1
            cuts += there > most[step]
            held.append(min(there, int(most[step])))
        yield strategy, np.mean(held), max(held), cuts


def main():
    runs = {persistence: at_equal_rows(persistence) for persistence in PERSISTENCE}
    print(
        f"Prompt of {PROMPT}, {STEPS} decoded steps, {PROMPT} + {DECODED} rows a slot; (one standard error)"
    )
    print("persistence  policy   prompt gone     slots dead      decoded rows of age 512 alive")
    for persistence, results in runs.items():
        for policy, result in results.items():
            shown = [
                told(result, policy, *one) for one in (("ger", STEPS), ("dead", STEPS), ("survival", 512))
            ]
            print(f"{persistence:11}  {policy:8} " + "   ".join(shown))
    print("strategy        rows held, mean   largest   steps that choose")
    for strategy, mean, largest, cuts in strategies():
        print(f"{strategy:15} {mean:15.1f} {largest:9} {cuts:19}")

    made, axes = plot.figure(1, 2)
    steps = np.arange(0, STEPS + 1, 16)
    ages = np.arange(0, 1025, 8)
    for policy, result in runs[0.998].items():
        colour = plot.COLOURS[COLOURS[policy]]
        for ax, name, at in zip(axes, ("dead", "survival"), (steps, ages), strict=True):
            plot.band(ax, at, *result.estimate(policy, name, at), color=colour, label=policy)
    axes[0].set(
        xlabel="decoded steps", ylabel="fraction of the prompt's slots that are dead", title="The prompt"
    )
    axes[1].set(
        xlabel="age of a decoded row (steps)",
        ylabel="fraction of slots that still have it",
        title="Decoded rows",
    )
    axes[0].legend()
    if len(sys.argv) > 1:
        plot.save(made, sys.argv[1])


if __name__ == "__main__":
    main()
