# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # First steps
#
# As a notebook: `make notebooks` writes `notebooks/first_steps.ipynb`. As a script it runs as it is.
#
# A KV cache keeps, for every token, one row in each (layer, KV head): a *slot*. Eviction removes rows, slot by slot.
# Two things can go wrong: a token is gone from **every** slot (global eviction, GER), or rows are left and no route
# of reads leads from the query to them (reachability). `simulate` counts both, theory beside it.

# %%
import sys
from pathlib import Path

import numpy as np

from routegraph import plot, simulate
from routegraph.critical.points import half_point
from routegraph.theory.ger import one_factor

result = simulate(n_tokens=1024, ratio=[0.5, 0.8, 0.9, 0.95], n_layers=12, n_heads=4, degree=2, replicates=24)
for row in result.to_dict()["results"]:
    told = {name: row[name] for name in ("eviction_rate_layer", "reach_fraction")}
    shown = ", ".join(
        f"{name} {cell['mean']:.3f} ± {cell['stderr']:.3f} (theory {cell['theory']:.3f})"
        for name, cell in told.items()
    )
    print(f"ratio {row['ratio']}: {shown}")

# %% [markdown]
# All ratios come from one pass: every slot has one number, the level at which it dies. So a whole curve costs nothing
# more than a point, and its half point has an interval from resampling the replicates.

# %%
ratios = np.linspace(0, 0.999, 400)
found = half_point(ratios, result.curves("reach_fraction", ratios))
print(f"half of the context is out of reach at ratio {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]")

# %% [markdown]
# ## Where half of the tokens are gone: independent slots
#
# With M independent slots a token is gone with probability p^M when a share p of the rows is, so half of the tokens
# are gone at p = 2^(-1/M): .906 for 7 slots, .966 for 20. Slots of a real model agree; M_eff = ln GER / ln p says how
# many independent slots would lose as much at that p, and changes along the curve (`reading_a_real_model.py` prints
# it). Half of the tokens gone near .9 needs no phase transition. Answers are another curve.
#
# The simulated points are a check of the line: M independent slots, half points with 95 % intervals.

# %%
made, axes = plot.figure(width=6.0)
slots = np.geomspace(1, 1000, 400)
axes.semilogx(slots, 2 ** (-1 / slots), color=plot.COLOURS["blue"], label="theory, 2^(-1/M)")
for number, (n_layers, n_heads) in enumerate([(1, 2), (1, 8), (4, 8), (16, 8)]):
    many = simulate(2048, n_layers=n_layers, n_heads=n_heads, replicates=12, seed=number)
    grid = np.linspace(0.5, 1 - 1 / 2048, 800)
    at = half_point(grid, many.curves("eviction_rate", grid))
    theory = 2 ** (-1 / (n_layers * n_heads))
    print(f"M = {n_layers * n_heads}: {at.value:.4f} [{at.low:.4f}, {at.high:.4f}], theory {theory:.4f}")
    bars = [[at.value - at.low], [at.high - at.value]]
    axes.errorbar(n_layers * n_heads, at.value, bars, fmt="o", color=plot.COLOURS["black"], markersize=4,
                  label="simulated" if number == 0 else None)  # fmt: skip
axes.axhspan(2 ** (-1 / 7), 2 ** (-1 / 20), color=plot.COLOURS["orange"], alpha=0.2, linewidth=0,
             label="7 to 20 slots: .906 to .966")  # fmt: skip
axes.set(
    xlabel="independent slots",
    ylabel="share of rows gone at which half of the tokens are",
    title="Retention, half",
    ylim=(0.48, 1.01),
)
axes.legend(loc="lower right")
if __name__ == "__main__" and len(sys.argv) > 1:
    plot.save(made, Path(sys.argv[1]))
made

# %% [markdown]
# ## Heads that agree
#
# One number for agreement: the correlation of the scores that two slots give one token. A little of it costs orders of
# magnitude, which is why independence is a bad guess for a real model.

# %%
for correlation in (0.0, 0.2, 0.5):
    agreeing = simulate(1024, [0.9], n_layers=12, n_heads=4, score_correlation=correlation, replicates=24)
    mean, error = agreeing.estimate("eviction_rate", [0.9])
    theory = one_factor([agreeing.level_of.levels([0.9])[0] / 1024], 48, correlation)[0]
    print(f"correlation {correlation}: gone everywhere {mean[0]:.4f} ± {error[0]:.4f} (theory {theory:.4f})")
