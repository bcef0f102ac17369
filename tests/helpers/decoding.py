"""What kvpress's own pipeline answers under eviction, for comparison with decoding on a shared cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from routegraph import policies
from routegraph.validate.decoding.decode import decode
from routegraph.validate.models.load import Loaded, wrap
from routegraph.validate.presses import prefill, reference
from routegraph.validate.presses.scorers import SCORERS
from tests.helpers.models import random_ids, tiny_network

#: Largest difference of a logit from kvpress's or from plain generation's.
TOLERANCE = 1e-4
#: Tokens of a question to the random models.
QUESTION = np.array([7, 23, 110, 45, 200])


class Words:
    """A tokenizer to see token ids through."""

    model_max_length = 512

    @staticmethod
    def decode(ids: Any, skip_special_tokens: bool = False) -> str:
        return " ".join(map(str, ids.tolist()))


def small(family: str = "llama", seed: int = 0, eos: Any = None, **settings: Any) -> Loaded:
    network = tiny_network(family, seed=seed, **settings)
    network.generation_config.eos_token_id = eos
    return wrap(network, Words(), family)


def context(seed: int = 1) -> np.ndarray:
    return random_ids(seed=seed)[0].numpy()


def kvpress_reply(
    model: Loaded, ids: np.ndarray, question: np.ndarray, press: Any, n: int
) -> tuple[str, np.ndarray]:
    """Text and logits of every step from kvpress's own pipeline, which prefills, evicts and generates."""
    import torch

    pipeline = reference.pipeline_of(model)
    tokens = {
        "context_ids": torch.from_numpy(ids)[None],
        "questions_ids": [torch.from_numpy(question)[None]],
    }
    logits: list[np.ndarray] = []

    def keep(_module: Any, _args: Any, output: Any) -> None:
        logits.append(output.logits[0, -1].float().numpy().copy())

    handle = model.model.register_forward_hook(keep)

    @contextmanager
    def pressing(network: Any) -> Iterator[None]:
        with press(network), prefill.rotary(network):
            yield

    try:
        with reference.patched_attention(), torch.no_grad():
            (text,) = pipeline._forward(tokens, max_new_tokens=n, press=pressing)
    finally:
        handle.remove()
        for module in prefill.attention_modules(model.model):
            module.masked_key_indices = None
            module._modules.pop("rotary_emb", None)  # left there by presses
    return text, np.stack(logits)


def kvpress_kept(model: Loaded, ids: np.ndarray, press: Any) -> np.ndarray:
    import torch

    return reference.reference_kept(model.model, torch.from_numpy(ids)[None], press)


def press_of(policy: str, ratio: float) -> Any:
    return reference.reference_press(policy, ratio, 64, SCORERS["expected_attention"]())


def survivals(model: Loaded, ids: np.ndarray) -> dict[str, Any]:
    """Our survival tables of the policies that kvpress has, too, from one prefill."""
    import torch

    tables = prefill.prefill_scores(
        model.model, torch.from_numpy(ids)[None], SCORERS["expected_attention"](), [64]
    )
    return {
        "topk": policies.apply("topk", tables[None]),
        "adakv": policies.apply("adakv", tables[None]),
        "chunk": policies.apply("chunk", tables[64], chunk_length=64),
    }


def against_kvpress(
    model: Loaded,
    ids: np.ndarray,
    question: np.ndarray,
    ratios: tuple[float, ...],
    n: int,
    names: tuple[str, ...] = ("topk", "adakv", "chunk"),
) -> list[tuple[str, float, bool, bool, float]]:
    """Answer under every policy and ratio in one batch, and case by case with kvpress.

    Returns policy, ratio, whether the texts are the same, whether kvpress broke a tie of scores at the cut of a
    chunk another way (then what it kept is decoded), and the largest difference of a logit over all common steps.
    """
    tables = survivals(model, ids)
    labels = [(policy, ratio) for policy in names for ratio in ratios]
    kept = np.stack([tables[policy].alive(ratio) for policy, ratio in labels])
    tied = [False] * len(labels)
    for case, (policy, ratio) in enumerate(labels):
        if policy == "chunk":
            theirs = kvpress_kept(model, ids, press_of(policy, ratio))
            tied[case] = not np.array_equal(theirs, kept[case])
            kept[case] = theirs
    decoded = decode(model, ids, question, kept, n, n_logits=n)
    rows = []
    for case, (policy, ratio) in enumerate(labels):
        text, logits = kvpress_reply(model, ids, question, press_of(policy, ratio), n)
        both = min(len(logits), len(decoded.token_ids[case]))
        difference = float(np.abs(logits[:both] - decoded.logits[case, :both]).max())
        rows.append((policy, ratio, text == decoded.texts[case], tied[case], difference))
    return rows
