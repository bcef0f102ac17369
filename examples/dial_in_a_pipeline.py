# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---

# %% [markdown]
# # The dial in a pipeline
#
# As a notebook: `make notebooks` writes `notebooks/dial_in_a_pipeline.ipynb`. As a script it runs as it is.
#
# One compression ratio for all prompts is held up by the weakest of them. A *dial* takes for each prompt the largest
# ratio at which no more than a share of what its reply rests on is lost. Here one is certified on a tiny model, and
# then used where models are run: in the pipeline of kvpress.

# %%
import tempfile
from pathlib import Path

from routegraph import load_dial
from routegraph.files import write_json
from routegraph.validate.certify.run import certify
from routegraph.validate.measure.run import measure
from routegraph.validate.models.load import load, use_threads
from routegraph.validate.predict.run import predict
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.tasks import load_task

use_threads(1)
model = load("llama-tiny")

# %% [markdown]
# ## Certify, once
#
# On prompts like those to come: the answers of 80 are measured, what they rest on is predicted, and both together say
# how much may be lost. `routegraph certify measured/ --predict predicted/ --out dial.json` writes the same file.

# %%
asked = {
    "policy_names": ["topk", "adakv"],
    "ratios": [0.1, 0.2, 0.3, 0.4, 0.6, 0.8],
    "chunk_length": 16,
    "max_new_tokens": 1,  # answers of this task are one word
}
prompts = load_task("words_forward", n=80)
certificate = certify(measure(model, prompts, **asked), predict(model, prompts, **asked))
print(certificate.answer)

file = Path(tempfile.mkdtemp()) / "dial.json"
write_json(file, certificate.to_dict())

# %% [markdown]
# ## Deploy
#
# The file is all that is needed. `press()` is a press of kvpress's: as any other it is given to the pipeline, and it
# decides the ratio of each context from that context's own prefill. The ratio depends on what will be asked, and
# kvpress evicts before it is told the question, so the press is told first. `inputs` puts context and question as they
# were put when the dial was tuned.

# %%
dial = load_dial(file)
pipeline = kvpress().KVPressTextGenerationPipeline(
    model=model.model, tokenizer=model.tokenizer, device=model.model.device
)

print(f"{'question':<14} {'right':<10} {'full cache':<10} {'dialled':<10} ratio")
for prompt in load_task("words_forward", n=8, seed=1):
    context, question = dial.inputs(model, prompt)
    whole = pipeline(context, **question, max_new_tokens=1)["answer"]
    press = dial.press(prompt.question, prompt.answer_prefix)
    short = pipeline(context, **question, press=press, max_new_tokens=1)["answer"]
    print(f"{prompt.question:<14} {prompt.answer:<10} {whole:<10} {short:<10} {press.chosen:g}")

# %% [markdown]
# ## What it is for, and what not
#
# The guarantee is for prompts drawn as those were that certified. What the dial was not tuned for, it refuses: another
# model (by a digest of its weights), a prompt put in another way.

# %%
other = load("llama-tiny-guessing")
try:
    dial.ratio(other, prompts[0])
except ValueError as error:
    print(error)
