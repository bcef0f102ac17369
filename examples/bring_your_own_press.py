# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # Bring your own press
#
# As a notebook: `make notebooks` writes `notebooks/bring_your_own_press.ipynb`. As a script it runs as it is.
#
# You have written a compression policy for kvpress and want to know how far it can go before you deploy it. Here it
# is: keep rows whose values are large, and recent ones.

# %%
from dataclasses import dataclass

import numpy as np
import torch

from routegraph.validate.compare.run import compare
from routegraph.validate.decoding.decode import decode, variants
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.presses import survivors
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.prompts.prompt import bundled_prompts
from routegraph.validate.prompts.tokens import tokenise
from routegraph.validate.traces.extract import extract

ScorerPress = kvpress().ScorerPress


@dataclass
class LoudAndRecent(ScorerPress):
    """Score a row by the norm of its value, with a bonus for the last rows."""

    bonus: float = 10.0
    window_size: int = 32  # by this name routegraph knows that the last rows are protected, not liked

    def score(self, module, hidden_states, keys, values, attentions, kwargs):
        scores = values.norm(dim=-1)
        scores = scores / scores.mean(dim=-1, keepdim=True)
        late = torch.arange(scores.shape[-1], device=scores.device) >= scores.shape[-1] - self.window_size
        return scores + self.bonus * late


# %% [markdown]
# ## What it keeps, from one prefill
#
# A press that scores and cuts has, for each slot, one ratio at which the slot dies; so one prefill answers for every
# ratio. That is checked, not believed: `survivors` asks the press itself what it keeps. (Rows of equal score at the cut
# are ties, which torch breaks at will.)

# %%
use_threads(1)
model = load("smollm2")
prompts = bundled_prompts()[:8]
traces = extract(model, prompts, scorers=["expected_attention", LoudAndRecent()])
itself = survivors.survivors(model, prompts[0], LoudAndRecent, [0.3, 0.6, 0.9])
print(itself.press, "is", itself.statement)
labels, ours = variants(traces[0], ["topk"], itself.ratios.tolist(), scorer="LoudAndRecent")
for (policy, ratio), one, other in zip(labels, ours, itself.kept, strict=True):
    print(
        f"{policy} at ratio {ratio}: {np.sum(one != other)} of {one.size} slots differ from the press itself"
    )

# %% [markdown]
# ## Where it breaks
#
# `compare` reads off at which ratio half of the tokens are gone from every slot. Theory and simulation are fitted on
# half of the documents and judged on the other half. (Four documents each: see how wide the intervals are.)

# %%
for scorer in ("expected_attention", "LoudAndRecent"):
    found = compare(traces, policy_names=["topk"], scorer=scorer).policies["topk"].axes["model"]
    read, theory = found.half("evictable tokens"), found.half("measured copula")
    print(
        f"{scorer}: half of the tokens are gone from all {found.slots} slots at ratio {read.value:.3f} ",
        end="",
    )
    print(
        f"[{read.low:.3f}, {read.high:.3f}]; copula {theory.value:.3f}; rmse {found.rmse('measured copula'):.3f}"
    )

# %% [markdown]
# ## What the model then answers
#
# All ratios are decoded in one batch: the variants share the cache, each with the rows it keeps.

# %%
number = 5
asked = tokenise(model, prompts[number])
ratios = [0.0, 0.3, 0.5, 0.7, 0.9]
print(f"asked: {prompts[number].question} Right: {prompts[number].answer}")
for scorer in ("expected_attention", "LoudAndRecent"):
    labels, alive = variants(traces[number], ["topk"], ratios, scorer=scorer)
    replies = decode(model, asked.context, asked.question, alive, max_new_tokens=6)
    print(
        scorer + ":",
        ", ".join(f"{r}: {text.strip()!r}" for (_, r), text in zip(labels, replies.texts, strict=True)),
    )
