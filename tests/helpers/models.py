"""Random models of every family, and what they are given to read."""

from typing import Any

from routegraph.validate.models.load import Loaded, wrap
from routegraph.validate.prompts.prompt import Prompt
from tests.helpers.tokenizer import VOCABULARY, byte_level_tokenizer

#: Tokens of the contexts that random models are given; the last chunk of 64 is a short one.
N_RANDOM = 170
#: Models that go by a name, as errors list them.
KNOWN = "llama-tiny, llama-tiny-guessing, qwen-tiny, qwen-tiny-guessing, qwen2.5-coder-0.5b, smollm2, smollm2-reader"


def token_ids(model: Loaded, prompt: Prompt) -> Any:
    return model.tokenizer(prompt.context, return_tensors="pt").input_ids


def tiny_network(family: str, vocabulary: int = 300, seed: int = 0) -> Any:
    """Return a random model of three layers, four query heads and two KV heads."""
    import torch
    import transformers

    config_class, model_class = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    }[family]
    more = {"sliding_window": None} if family == "mistral" else {}
    config = config_class(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        **more,
    )
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = model_class(config)
        # The usual initial weights are so small that all scores are nearly equal.
        for parameter in network.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.25)
    return network.eval().requires_grad_(False)


def tiny_model(name: str = "tiny", seed: int = 0) -> Loaded:
    """Return a random LLaMA that reads text: whatever needs no trained weights is fast with it."""
    return wrap(tiny_network("llama", VOCABULARY, seed), byte_level_tokenizer(), name)


def random_ids(n: int = N_RANDOM, vocabulary: int = 300, seed: int = 1) -> Any:
    import torch

    return torch.randint(vocabulary, (1, n), generator=torch.Generator().manual_seed(seed))
