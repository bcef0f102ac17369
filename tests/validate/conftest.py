"""One real pretrained model for the whole run, and tiny random ones of each family."""

import pytest

from routegraph.validate.models.load import Loaded, load
from routegraph.validate.prompts.prompt import Prompt, bundled_prompts
from tests.helpers.models import tiny_model, token_ids


@pytest.fixture(scope="session")
def smollm2() -> Loaded:
    """SmolLM2-135M-Instruct, fetched on the first run and cached; its absence is a failure, not a skip."""
    import torch

    torch.set_num_threads(1)  # on shared cores two are slower
    return load("smollm2")


@pytest.fixture(scope="session")
def short_prompts(smollm2: Loaded) -> list[Prompt]:
    """Return the five shortest bundled prompts, all of more than two chunks of 64 tokens."""
    prompts = sorted(bundled_prompts(), key=lambda prompt: len(token_ids(smollm2, prompt)[0]))[:5]
    assert all(len(token_ids(smollm2, prompt)[0]) > 128 for prompt in prompts)
    return prompts


@pytest.fixture(scope="session")
def tiny() -> Loaded:
    """A random LLaMA and a tokenizer made on the spot: nothing is fetched."""
    import torch

    torch.set_num_threads(1)
    return tiny_model()
