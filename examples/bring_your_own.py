# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Bring your own policy, ensemble and observable
#
# As a notebook: `make notebooks` writes `notebooks/bring_your_own.ipynb`. As a script it runs as it is.
#
# Each is one function and one decorator. Once registered it runs through `simulate`, the command line's
# names, and the laws that every policy and ensemble of routegraph must obey.

# %%
import numpy as np

from routegraph import simulate
from routegraph.kernels.ranks import permutation
from routegraph.policies import eviction_order, policy
from routegraph.sim.ensembles import Edges, ensemble, regular
from routegraph.sim.measures import measure
from routegraph.sim.observables import observable
from routegraph.survival import Survival
from routegraph.testing import check_laws

# %% [markdown]
# ## A policy: give every row that lies in the middle of the context a handicap
#
# A policy turns scores into the level at which each row dies. `eviction_order` ranks scores from the lowest up.


# %%
@policy("lost_in_the_middle")
def lost_in_the_middle(scores, *, n_context, handicap=1.0):
    """Evict the lowest scores first, those in the middle of the context at a handicap."""
    middle = 1 - np.abs(np.linspace(-1, 1, n_context))
    return Survival(eviction_order(np.asarray(scores) - handicap * middle))


# %% [markdown]
# ## An ensemble: a random permutation of the past, the same for every head
#
# An ensemble draws the reads of one layer from a key; counter-based numbers make it the same every time.


# %%
@ensemble("mirror")
def mirror(key, layer, *, n_tokens, n_heads, degree, salt=0):
    """Read keys that a random order puts before the query, the same ones in every head."""
    order = np.empty(n_tokens, dtype=np.int32)
    permutation(key, layer, salt, order)
    edges = regular(n_tokens, n_heads, degree)
    reads = (order[:, None] + np.arange(degree)) % (np.arange(n_tokens)[:, None] + 1)
    slots = reads[:, None, :] * n_heads + np.arange(n_heads)[:, None]
    return Edges(edges.indptr, slots.reshape(-1).astype(edges.slots.dtype))


# %% [markdown]
# ## An observable and a measure
#
# An observable is read off the stored levels of all replicates, at any ratio, after the run; a measure sees the
# graph, the survival and the answers of one replicate.


# %%
@observable("reach_most")
def reach_most(sample, levels):
    """Whether more than half of the answer tokens are reached."""
    reached = sample.answer_reach[:, None, :] >= np.asarray(levels)[:, None]
    return (reached.mean(axis=2) > 0.5).astype(float)


@measure("surviving_reads")
def surviving_reads(replicate, ratios):
    """Fraction of the answer tokens' slots that survive."""
    slots = replicate.survival.drop[:, :, replicate.answers]
    return np.array([(slots > level).mean() for level in replicate.survival.levels(ratios)])


# %% [markdown]
# ## The laws, then a run
#
# `check_laws` raises with the smallest counterexample it finds.

# %%
check_laws("lost_in_the_middle")
check_laws("mirror")

# %%
ratios = [0.5, 0.8, 0.95]
result = simulate(
    512,
    ratios,
    n_layers=8,
    n_heads=4,
    ensemble="mirror",
    policy="lost_in_the_middle",
    score_correlation=0.3,
    settings={"handicap": 2.0},
    measures=["surviving_reads"],
)
for name in ("ger_layer", "reach_fraction", "reach_most", "surviving_reads"):
    mean, error = result.estimate(name, ratios)
    shown = ", ".join(f"{m:.3f} ± {e:.3f}" for m, e in zip(mean, error, strict=True))
    print(f"{name:16} at {ratios}: {shown}")
