# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Fitting critical points, slowly
#
# As a notebook: `make notebooks` writes `notebooks/fitting_critical_points.ipynb`. As a script it runs as it is.
#
# From a raw sweep to a critical ratio with an interval that can be believed, on a case whose answer is known:
# 1+1 directed bond percolation. Every read has a slot of its own, slots die independently with probability *ratio*,
# nothing but reads carries a token down. The query is a single seed; the system is critical at
# ratio 1 - .644700185 = .3553 (Hinrichsen 2000).
#
# ## 1. The sweep
#
# Size is the number of layers; the context is wide enough that the seed never feels its edge. Layers and tokens are
# walked *together*. The folder can be killed and resumed, and extended by sizes or replicates; only what is new is run.

# %%
import sys
import tempfile
from pathlib import Path

import numpy as np

from routegraph import plot
from routegraph.critical.fit import fit_critical
from routegraph.sim.sweep import sweep

ALPHA_C, INVERSE_NU, DELTA = 1 - 0.644700185, 1 / 1.733847, 0.159464
LAYERS = [8, 16, 32, 64]
folder = Path(tempfile.mkdtemp()) / "dp"
swept = sweep(
    folder,
    n_layers=LAYERS,
    n_tokens=[2 * layers + 2 for layers in LAYERS],
    together=["n_layers", "n_tokens"],
    n_heads=2,
    ensemble="lattice",
    policy="bernoulli",
    residual=False,
    n_answers=1,
    settings={"resolution": 4096},
    replicates=2000,
    workers=2,
).by_size("L")
print(f"{len(swept.cells)} cells, {swept.replicates} replicates each")

# %% [markdown]
# ## 2. Look at the curves before fitting anything
#
# `survives` is 1 where the query reaches any token. An order parameter that goes from 1 to 0, more steeply for
# larger systems. There is no common crossing: at the critical point survival falls as a power of depth, L^-delta.

# %%
ratios = np.linspace(0.2, 0.5, 76)
samples = swept.curves("survives", ratios)  # float[S, R, A]
sizes = swept.sizes("L")
half = fit_critical(ratios, samples, sizes, method="half", scale="L", observable="survival")
print(half.summary())

# %% [markdown]
# The half point is a location, not yet a critical point: look at how it moves. The verdict asks whether the curve
# *sharpens*, measured against its distance from the end of the range; a crossover would not.
#
# ## 3. Peaks
#
# The susceptibility peaks nearby. It is noisy, and its position is shifted by a power of the size that has to be
# extrapolated away: the fit does that from three sizes on, and says so if the peak does not grow.

# %%
print(fit_critical(ratios, samples, sizes, method="peak", scale="L", observable="survival").summary())

# %% [markdown]
# ## 4. Collapse
#
# P(alpha, L) = L^(zeta/nu) f((alpha - alpha_c) L^(1/nu)). Only a window around the critical point scales: narrow it.
# First everything free, then with the exponent of the decay given, as one would after measuring it separately.

# %%
near = np.linspace(0.295, 0.415, 49)
samples = swept.curves("survives", near)
free = fit_critical(near, samples, sizes, method="collapse", scale="L", observable="survival")
given = fit_critical(
    near, samples, sizes, method="collapse", scale="L", zeta_over_nu=-DELTA, observable="survival"
)
for name, fit in {"free": free, "delta given": given}.items():
    print(f"--- {name}\n{fit.summary()}")
    for label, value, ends, truth in (
        ("critical ratio", fit.alpha_c, fit.ci, ALPHA_C),
        ("1/nu", fit.inverse_nu, fit.inverse_nu_ci, INVERSE_NU),
    ):
        inside = "inside" if ends[0] <= truth <= ends[1] else "OUTSIDE"
        print(f"{label}: {value:.4f} [{ends[0]:.4f}, {ends[1]:.4f}], truth {truth:.4f} {inside}")

# %% [markdown]
# How to read it:
#
# - **The interval** comes from resampling replicates and refitting each time. S + 1, the classic error of a collapse,
#   is in `details["s_plus_1"]`; it moves one parameter alone and knows nothing of errors shared along a curve.
# - **The table** drops the smallest size, step by step. A critical ratio that walks is a correction to scaling; try
#   `correction=True`, or larger systems. One that only jitters inside its interval is settled.
# - **The quality** S is about 1 where curves fall on one another within their errors. A bad S makes every interval
#   meaningless, and is warned about.
#
# ## 5. The figure, and the file

# %%
made, axes = plot.figure(1, 2, width=5.2)
given.plot(axes)
axes[0].axvline(ALPHA_C, color=plot.COLOURS["red"], linewidth=1, label=f"truth {ALPHA_C:.4f}")
axes[0].legend()
given.save(folder / "fit.json")
if __name__ == "__main__" and len(sys.argv) > 1:
    plot.save(made, Path(sys.argv[1]))
made

# %% [markdown]
# ## 6. The same questions to something that is no transition
#
# GER in the number of slots: p^M. Its half point, 2^(-1/M), runs to 1, and the curve steepens only because it is
# squeezed against the end of the range. A collapse can be forced on it; the verdict is *crossover* all the same.

# %%
slots = sweep(n_tokens=1024, n_layers=[1, 2, 4, 8], n_heads=4, replicates=40, workers=2).by_size("M")
grid = np.linspace(0.5, 0.998, 120)
crossover = fit_critical(
    grid, slots.curves("eviction_rate", grid), slots.sizes("M"), method="half", scale="M", observable="GER"
)
print(crossover.summary())
for row in crossover.table:
    print(
        f"M = {row['size']:g}: half point {row['half_point']['value']:.4f}, theory {2 ** (-1 / row['size']):.4f}"
    )

# %% [markdown]
# ## 7. Measured curves
#
# Hallucinations out of items asked, by ratio: few ratios, few items. The question is whether there is a cliff at all.
# Two made-up models that both rank-correlate 1 with the ratio:

# %%
asked = np.array([0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95])
for name, counts in {
    "steady": [10, 22, 33, 45, 52, 58, 64, 68],
    "cliff": [8, 9, 10, 12, 14, 22, 71, 74],
}.items():
    fit = fit_critical(
        asked, counts, trials=np.full(len(asked), 100), observable=f"hallucinations of '{name}'"
    )
    print(fit.summary())
