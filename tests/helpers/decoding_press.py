"""What kvpress's own DecodingPress keeps while its pipeline decodes: rows of each slot after every cut, and the reply."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from routegraph.validate.models.load import Loaded
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.prefill import rotary


def pressed(
    model: Loaded, context: np.ndarray, question: np.ndarray, base: Any, interval: int, budget: int, n: int
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Answer with kvpress's pipeline and DecodingPress.

    Returns the step at which each row dies, int[n_layers, n_heads, n_rows], the reply's tokens, and at every cut the
    smallest gap between the score of a row that stays and one that goes, over slots.
    """
    import torch
    from kvpress import KVPressTextGenerationPipeline

    press = kvpress().DecodingPress(base_press=base, compression_interval=interval, target_size=budget)
    shape = (model.n_layers, model.n_heads)
    n_before = len(context) + len(question) - 1
    rows = [np.tile(np.arange(len(context)), (model.n_heads, 1)) for _ in range(model.n_layers)]
    deaths: list[tuple[int, int, np.ndarray]] = []
    gaps: list[float] = []
    tokens: list[int] = []
    step, came = 0, len(context)
    plain_score, plain_compress = base.score, base.compress
    scores: list[Any] = []

    def score(*args: Any, **kwargs: Any) -> Any:
        scores.append(plain_score(*args, **kwargs))
        return scores[-1]

    def compress(module: Any, hidden: Any, keys: Any, values: Any, attentions: Any, kwargs: Any) -> Any:
        layer = module.layer_idx
        n_new = keys.shape[2] - rows[layer].shape[1]
        new = np.tile(np.arange(came - n_new, came), (model.n_heads, 1))
        rows[layer] = np.concatenate([rows[layer], new], axis=1)
        scores.clear()
        result = plain_compress(module, hidden, keys, values, attentions, kwargs)
        if scores:
            kept = scores[0].topk(budget, dim=-1).indices[0].numpy()  # as its own compress asks
            assert result[0].equal(keys.gather(2, torch.from_numpy(kept)[None, ..., None].expand(result[0].shape)))
            order = scores[0][0].sort(dim=-1, descending=True).values
            gaps.append(float((order[:, budget - 1] - order[:, budget]).min()))
            left = np.take_along_axis(rows[layer], kept, axis=1)
            for head in range(model.n_heads):
                deaths.append((layer, head, np.setdiff1d(rows[layer][head], left[head])))
                deaths[-1] = (*deaths[-1], step)
            rows[layer] = left
        return result

    def before(_module: Any, args: Any, kwargs: Any) -> None:
        nonlocal step, came
        ids = args[0] if args else kwargs["input_ids"]
        step, came = step + 1, came + ids.shape[1]

    def after(_module: Any, _args: Any, output: Any) -> None:
        tokens.append(int(output.logits[0, -1].argmax()))

    class Pressing(kvpress().DecodingPress):
        @contextmanager
        def __call__(self, network: Any) -> Iterator[None]:
            with press(network), rotary(network):
                yield

    base.score, base.compress = score, compress
    handles = [
        model.model.register_forward_pre_hook(before, with_kwargs=True),
        model.model.register_forward_hook(after),
    ]
    pipeline = KVPressTextGenerationPipeline(model=model.model, tokenizer=model.tokenizer)
    given = {"context_ids": torch.from_numpy(context)[None], "questions_ids": [torch.from_numpy(question)[None]]}
    try:
        with torch.no_grad():
            pipeline._forward(given, max_new_tokens=n, press=Pressing(base_press=base))
    finally:
        for handle in handles:
            handle.remove()
        del base.score, base.compress
    steps = len(tokens)
    death = np.full((*shape, n_before + steps), steps + 1, dtype=np.int64)
    for layer, head, gone, when in deaths:
        death[layer, head, gone] = when
    return death, tokens, np.array(gaps)
