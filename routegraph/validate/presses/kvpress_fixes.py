"""kvpress, imported without its side effect, and those of its presses that need another ``score``."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from routegraph.validate.models.families import rotated_queries


def kvpress() -> Any:
    """Import kvpress without its side effect, and return it.

    Importing it wraps every attention function that transformers has registered, for every model of the
    process; they are put back. Press by press, `presses.patched_attention` wraps them where that is needed.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = dict(ALL_ATTENTION_FUNCTIONS.items())
    import kvpress

    for name, function in before.items():
        if ALL_ATTENTION_FUNCTIONS[name] is not function:
            ALL_ATTENTION_FUNCTIONS[name] = function
    return kvpress


def _named_like(base: Any, made: Any) -> Any:
    """Give a subclass the name that users know, and return it."""
    made.__name__ = made.__qualname__ = base.__name__
    return made


@functools.cache
def expected_attention_press() -> Any:
    """Return kvpress's ExpectedAttentionPress with the mean rotation of the future positions worked out once.

    The press works it out again for every layer and every chunk, which is three quarters of its time; the
    scores stay the same to the last bit.
    """
    base = kvpress().ExpectedAttentionPress

    class OneRotation(base):  # type: ignore[misc, valid-type]
        def apply_avg_rope(self, module: Any, mu: Any, cov: Any, q_len: int) -> tuple[Any, Any]:
            import torch

            known: dict[Any, Any] = self.__dict__.setdefault("_rotations", {})
            # Where layers differ in their rotation, they do so by kind (Gemma-3).
            key = q_len, getattr(module, "layer_type", None)
            if key not in known:
                identity = torch.eye(mu.shape[-1], dtype=mu.dtype, device=mu.device)
                known[key] = super().apply_avg_rope(module, identity, None, q_len)[0].T.contiguous()
            rotation = known[key]
            rotated = torch.matmul(mu, rotation.T)
            return rotated, None if cov is None else rotation @ (cov @ rotation.T)

    return _named_like(base, OneRotation)


@functools.cache
def recomputed_attention_press() -> Any:
    """Return an ObservedAttentionPress that recomputes the weights, never an n x n x heads tensor."""
    from routegraph.validate.models.attention import BLOCK, attention_logits, attention_of, end_of_keys

    base = kvpress().ObservedAttentionPress

    class Recomputed(base):  # type: ignore[misc, valid-type]
        def score(
            self, module: Any, hidden: Any, keys: Any, values: Any, attentions: Any, kwargs: Any
        ) -> Any:
            import torch

            n, attention = keys.shape[2], attention_of(module)
            if n != kwargs["hidden_states"].shape[1]:
                raise ValueError("observed_attention scores whole contexts only; leave the chunk length out")
            queries = rotated_queries(module, kwargs)
            group = queries.shape[0] // keys.shape[1]
            position = torch.arange(n, device=keys.device)
            total = torch.zeros(len(queries), n, device=keys.device)
            for start in range(0, n, BLOCK):
                end = end_of_keys(start + BLOCK, n)
                block = queries[:, start : start + BLOCK]
                logits = attention_logits(block, keys[0, :, :end], attention, start)
                total[:, :end] += logits.softmax(-1).sum(1)
            return (total / (n - position)).unflatten(0, (-1, group)).mean(1)[None]

    return _named_like(base, Recomputed)


@functools.cache
def streaming_press() -> Any:
    """Return a StreamingLLMPress that scores by the order in which rows go as the ratio grows."""
    base = kvpress().StreamingLLMPress

    class Order(base):  # type: ignore[misc, valid-type]
        def score(
            self, module: Any, hidden: Any, keys: Any, values: Any, attentions: Any, kwargs: Any
        ) -> Any:
            import torch

            order = torch.arange(keys.shape[2], device=keys.device, dtype=torch.float32)
            order[: self.n_sink] = len(order)
            return order.expand(keys.shape[:3]).clone()  # AdaKV writes into the scores

    return _named_like(base, Order)


@functools.cache
def seeded(name: str, seed: int) -> Any:
    """Return a press class whose random numbers in layer l come from seed + l, and leave torch's own alone."""
    base = getattr(kvpress(), name)

    class Seeded(base):  # type: ignore[misc, valid-type]
        def score(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            import torch

            with torch.random.fork_rng():
                torch.manual_seed(seed + module.layer_idx)
                return super().score(module, *args, **kwargs)

    return _named_like(base, Seeded)


@contextmanager
def queries_once(modules: Sequence[Any]) -> Iterator[None]:
    """Let the query projections of attention modules, run in turn, answer from memory for rows they have projected.

    Scorers and the graph recorder ask for what the layer itself has just worked out: a tenth of a prefill each time.
    A projection works row by row, so that a slice of its result is the result of the slice, to the last bit too but
    for the fewest of rows, which matrix products treat otherwise: these are worked out again.
    """
    projections = [module.q_proj for module in modules if hasattr(module, "q_proj")]
    last: dict[str, Any] = {}

    def remembering(projection: Any) -> Any:
        plain = projection.forward

        def forward(hidden: Any) -> Any:
            if last.get("of") is not projection:
                # The layer's own call. The input is kept alive, so that nothing else can be where it is.
                last.update(of=projection, given=hidden, made=plain(hidden))
                return last["made"]
            rows = _rows_of(hidden, last["given"])
            return plain(hidden) if rows is None else last["made"][:, rows]

        return forward

    for projection in projections:
        projection.forward = remembering(projection)
    try:
        yield
    finally:
        for projection in projections:
            del projection.forward


def _rows_of(part: Any, whole: Any) -> slice | None:
    """Return which rows of `whole` [1, n, width] a tensor is a view of; None if of none, or of fewer than 16."""
    if part.dim() != 3 or part.stride()[1:] != whole.stride()[1:] or part.shape[2] != whole.shape[2]:
        return None
    start, rest = divmod(part.data_ptr() - whole.data_ptr(), whole.stride(1) * whole.element_size())
    stop = start + part.shape[1]
    fits = (
        rest == 0
        and start >= 0
        and stop <= whole.shape[1]
        and stop - start >= 16
        and len(part) == len(whole) == 1
    )
    return slice(start, stop) if fits else None
