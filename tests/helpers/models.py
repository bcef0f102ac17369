"""Random models of every family, and what they are given to read."""

from typing import Any

from routegraph.validate.models.attention import implementation
from routegraph.validate.models.load import Loaded, wrap
from routegraph.validate.prompts.prompt import Prompt
from tests.helpers.tokenizer import VOCABULARY, byte_level_tokenizer

#: Tokens of the contexts that random models are given; the last chunk of 64 is a short one.
N_RANDOM = 170
#: Models that go by a name, as errors list them.
KNOWN = "llama-tiny, llama-tiny-guessing, qwen-tiny, qwen-tiny-guessing, qwen2.5-coder-0.5b, smollm2, smollm2-reader"


def token_ids(model: Loaded, prompt: Prompt) -> Any:
    return model.tokenizer(prompt.context, return_tensors="pt").input_ids


#: What the configuration of a family needs, beside its sizes, to show what is particular to it.
PARTICULAR: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": None},
    "phi3": {"pad_token_id": 0, "partial_rotary_factor": 1.0},
    "olmo2": {"attention_bias": True},
    "granite": {"attention_multiplier": 0.3, "residual_multiplier": 0.7, "logits_scaling": 2.0},
    "smollm3": {"no_rope_layer_interval": 2, "pad_token_id": 0},
    "gemma2": {
        "sliding_window": 4096,
        "query_pre_attn_scalar": 9,
        "attn_logit_softcapping": 20.0,
        "tie_word_embeddings": False,
        "final_logit_softcapping": 30.0,
    },
    "gemma3_text": {
        "tie_word_embeddings": False,
        "sliding_window": 4096,
        "query_pre_attn_scalar": 9,
        "sliding_window_pattern": 2,
    },
}


def tiny_network(family: str, vocabulary: int = 300, seed: int = 0, **settings: Any) -> Any:
    """Return a random model of three layers, four query heads and two KV heads."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
    }
    config = AutoConfig.for_model(family, **{**sizes, **PARTICULAR.get(family, {}), **settings})
    config._attn_implementation = implementation(config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_config(config, attn_implementation=implementation(config))
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
