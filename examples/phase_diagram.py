# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # A phase diagram
#
# As a notebook: `make notebooks` writes `notebooks/phase_diagram.ipynb`. As a script it runs as it is.
#
# 40 x 40 points at n = 4096 in (heads, ratio) and in (correlation, ratio): what is lost from every slot, and what the
# query still reaches. A cell of the sweep answers all ratios at once, so that 1,600 points cost 40 cells.

# %%
import sys
from pathlib import Path

import numpy as np

from routegraph import plot
from routegraph.critical.points import crossing, half_point
from routegraph.sim.sweep import sweep
from routegraph.theory.ger import one_factor
from routegraph.theory.reach import cavity

N, LAYERS, DEGREE, REPLICATES = 4096, 12, 2, 6
KEPT = np.geomspace(1, 5e-4, 40)  # the border moves towards ratio 1: even steps of the kept share
RATIOS = 1 - KEPT
HEADS = list(range(1, 41))
CORRELATIONS = np.linspace(0, 0.975, 40)

# %%
common = {"n_tokens": N, "n_layers": LAYERS, "degree": DEGREE, "replicates": REPLICATES, "workers": 2}
by_heads = sweep(n_heads=HEADS, **common)
by_correlation = sweep(n_heads=4, score_correlation=CORRELATIONS, **common)

# %% [markdown]
# Theory, nothing fitted. GER: p^M for independent slots, the one-factor Gaussian copula for correlated ones.
# Reach: the cavity recursion, for independent slots only; with correlated slots there is no line to draw.

# %%
fine = np.linspace(0.2, 0.9997, 1200)
lines = {
    ("heads", "eviction_rate"): np.array([2 ** (-1 / (LAYERS * h)) for h in HEADS]),
    ("correlation", "eviction_rate"): np.array(
        [crossing(fine, one_factor(fine, LAYERS * 4, c)) for c in CORRELATIONS]
    ),
}
coarse = 1 - np.geomspace(0.95, 0.01, 24)
chosen = HEADS[::3]
cavities = [crossing(coarse, cavity(N, LAYERS, h, DEGREE, coarse).mean(axis=1)) for h in chosen]
lines["heads", "reach_fraction"] = np.interp(HEADS, chosen, cavities)

# %%
made, axes = plot.figure(2, 2, width=5.0, height=3.6)
names = {"reach_fraction": "context reached by the query", "eviction_rate": "context gone from every slot"}
dense = 1 - np.geomspace(1, 5e-4, 600)
for row, (axis, values, swept) in enumerate(
    (("heads", np.array(HEADS, dtype=float), by_heads), ("correlation", CORRELATIONS, by_correlation))
):
    for column, (name, title) in enumerate(names.items()):
        ax = axes[row, column]
        curves = swept.curves(name, RATIOS)
        image = ax.pcolormesh(
            values, KEPT, curves.mean(axis=1).T, vmin=0, vmax=1, cmap="viridis", rasterized=True
        )
        made.colorbar(image, ax=ax)
        found = [half_point(dense, curve, resamples=200) for curve in swept.curves(name, dense)]
        middle, low, high = np.array(found).T
        bars = np.nan_to_num([high - middle, middle - low])
        every = slice(None, None, 3)
        ax.errorbar(
            values[every],
            1 - middle[every],
            bars[:, every],
            fmt=".",
            color="white",
            markersize=4,
            label="half point, 95 %",
        )
        if (axis, name) in lines:
            ax.plot(values, 1 - lines[axis, name], color=plot.COLOURS["orange"], label="theory")
            gap = np.nanmax(np.abs(middle - lines[axis, name]))
            print(f"{name} by {axis}: half points differ from theory by at most {gap:.4f}")
        ax.set(
            xlabel="KV heads a layer" if axis == "heads" else "correlation of scores",
            ylabel="compression ratio",
            yscale="log",
            ylim=(1, 5e-4),
            yticks=[1, 0.5, 0.1, 0.01, 0.001],
            yticklabels=["0", ".5", ".9", ".99", ".999"],
        )
        ax.set_title(title, loc="left")
        ax.grid(visible=False)
        ax.legend(
            loc="lower right" if row == 0 else "lower left",
            facecolor="0.3",
            framealpha=0.6,
            frameon=True,
            labelcolor="white",
        )
made.suptitle(f"n = {N}, {LAYERS} layers, degree {DEGREE}, random eviction, columns, {REPLICATES} replicates; "
              "below: 4 heads", fontsize="small", x=0.01, ha="left")  # fmt: skip
if __name__ == "__main__" and len(sys.argv) > 1:
    plot.save(made, Path(sys.argv[1]))
made

# %% [markdown]
# ## What it shows
#
# - More heads protect from loss and from cutting off, and both borders move *towards the end* of the range: nothing
#   sharpens against its distance from the end. These are crossovers (see *fitting critical points*).
# - Correlation eats retention: at .5 and ratio .9, the 48 slots are worth ln GER / ln p = 10. What is left is the same
#   tokens in every slot, and the border of reach falls with it, from about .7 to about .5.
