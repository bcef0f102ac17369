"""What SmolLM2 answers on each English task with the whole cache, and without the fact asked for."""

import numpy as np
import pytest

from routegraph.validate.decoding.decode import decode
from routegraph.validate.models.load import Loaded, load
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.prompts.tokens import tokenise
from routegraph.validate.tasks import load_task
from tests.helpers.reader import ENGLISH

#: Prompts with an answer, as many of either direction; each has a twin without.
N = 24
LENGTH = 150
#: What 135M parameters should do at least, forward: one fact about the one person of the text. Elsewhere no claim.
AT_LEAST = {"base": 0.75, "multi_presence": 0.75}


@pytest.fixture(scope="module")
def model() -> Loaded:
    import torch

    torch.set_num_threads(1)
    return load("smollm2")


def says(model: Loaded, prompt: Prompt, answer: str) -> bool:
    """Whether the reply with nothing evicted begins with an answer."""
    asked = tokenise(model, prompt)
    whole = np.ones((1, model.n_layers, model.n_heads, len(asked.context)), dtype=bool)
    n_tokens = len(model.tokenizer.encode(f" {answer}", add_special_tokens=False))
    reply = decode(model, asked.context, asked.question, whole, n_tokens).texts[0].strip()
    return reply.casefold().startswith(answer.casefold())


@pytest.mark.verify
@pytest.mark.parametrize("name", ENGLISH)
def test_task_of_smollm2(name, model, record):
    prompts = load_task(name, 2 * N, length=LENGTH, count=lambda text: len(model.tokenizer(text).input_ids))
    right = {"forward": [], "inverse": [], "twin": []}
    for prompt, twin in zip(prompts[::2], prompts[1::2], strict=True):
        right[prompt.tags[0]].append(says(model, prompt, prompt.answer))
        right["twin"].append(says(model, twin, prompt.answer))
    accuracy = {kind: float(np.mean(hits)) for kind, hits in right.items()}
    for kind, hits in right.items():
        error = (accuracy[kind] * (1 - accuracy[kind]) / len(hits)) ** 0.5
        told, truth = (
            ("fact taken away, answered as before", 0) if kind == "twin" else (f"{kind} accuracy", 1)
        )
        record.value(told, accuracy[kind], error, truth, len(hits), f"SmolLM2, {LENGTH} tokens")
    assert accuracy["forward"] >= AT_LEAST.get(name, 0)
    # Who is not told cannot know: what is said of the twin is a guess among what stands in the text.
    if name in AT_LEAST:
        assert accuracy["twin"] < 0.6 * (accuracy["forward"] + accuracy["inverse"]) / 2
