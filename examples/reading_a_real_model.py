# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Reading a real model
#
# As a notebook: `make notebooks` writes `notebooks/reading_a_real_model.ipynb`. As a script it runs as it is.
#
# One prefill of a context shows everything that eviction will act on: who reads whom, what each row is worth to
# each head, which heads agree. Here SmolLM2-135M (LLaMA architecture, fetched without a hub) reads eight short
# documents; any LLaMA, Mistral, Qwen2 or Qwen3 model will do, by hub id, folder, GGUF file, or already in memory.

# %%
import sys
from pathlib import Path

import numpy as np

from routegraph import plot
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.prompts.prompt import bundled_prompts
from routegraph.validate.traces.extract import extract
from routegraph.validate.traces.inspect import inspect_traces

use_threads(1)
model = load("smollm2")
traces = extract(model, bundled_prompts()[:8], graphs=True)
first = traces[0]
print(
    f"{len(traces)} documents of {min(t.n_context for t in traces)} to {max(t.n_context for t in traces)} tokens,"
)
print(f"{first.n_layers} layers of {first.n_query_heads} query heads on {first.n_heads} KV heads;")
print(
    f"{first.graph.n_edges:,} reads kept of the first document, {first.kept_mass.mean():.0%} of its attention."
)

# %% [markdown]
# ## Where attention goes
#
# Most of it goes to the first tokens, whatever they say: the attention sink. What looks like heads that agree may be
# heads that have nothing to read.

# %%
found = inspect_traces(traces)
print(f"to the first four positions: {found.sink_share.mean[0]:.0%} ± {found.sink_share.stderr[0]:.1%}")
by_layer = np.mean([trace.sink_mass.mean(axis=1) for trace in traces], axis=0)
print("their share, layer by layer:", " ".join(f"{share:.2f}" for share in by_layer))
for octave, share in enumerate(found.by_distance.mean):
    print(f"of the rest, {2**octave - 1} to {2 ** (octave + 1) - 2} tokens back: {share:.0%}")

# %% [markdown]
# ## Consensus by depth: the sign is a matter of the sink
#
# Consensus is the number of distinct top keys over the number of heads: low where heads agree. The paper reads early
# agreement and late diversity off LLaMA models. With the sink in, heads seem to agree more and more with depth, for
# more and more of them rest on the first tokens; without it they agree less and less, and the slope changes its sign.
# Neither is wrong: they are two quantities, and only one of them is about content.

# %%
figure, axes = plot.figure()
for name, colour in (("consensus", "blue"), ("consensus without sink", "orange")):
    curve, slope = found.by_layer[name], found.slopes[name]
    label = "with the sink" if name == "consensus" else "without the sink"
    layers = np.arange(1, len(curve.mean) + 1)
    axes.plot(layers, curve.mean, color=plot.COLOURS[colour], label=label)
    band = curve.mean - 2 * curve.stderr, curve.mean + 2 * curve.stderr
    axes.fill_between(layers, *band, color=plot.COLOURS[colour], alpha=0.2, linewidth=0)
    print(f"{name}: slope over depth {slope.mean[0]:+.2f} ± {slope.stderr[0]:.2f}")
axes.set(
    xlabel="layer",
    ylabel="distinct top keys / query heads",
    title="SmolLM2: do heads agree? It depends on the sink",
    ylim=(0, 1),
)
axes.legend()
if __name__ == "__main__" and len(sys.argv) > 1:
    plot.save(figure, Path(sys.argv[1]))
figure

# %% [markdown]
# ## How many independent slots the model is worth
#
# Ninety slots hold each token. If they chose independently, a token would be gone from all of them at ratio .9 with
# probability .9^90, which is never. They agree, so it happens as if there were far fewer.

# %%
from routegraph.validate.traces.inspect import SLOTS_AT

for ratio in (0.8, 0.9, 0.95):
    at = int(np.argmin(np.abs(np.array(SLOTS_AT) - ratio)))
    slots, error = found.effective_slots.mean[at], found.effective_slots.stderr[at]
    print(f"ratio {ratio}: {slots:.0f} ± {error:.0f} effective slots of {first.n_layers * first.n_heads}")
