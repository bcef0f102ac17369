"""About how long a model takes, before the first prompt is done: it reads a few tokens, and the rest is a guess."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from routegraph.validate.models.load import Loaded, quiet
from routegraph.validate.models.sources import Progress

#: Tokens that are read, once to wake everything up and once to see how long it takes.
_READ = 32


def seconds_a_token(model: Loaded) -> float:
    """Return how long the model takes for a token of a short prompt, here and now."""
    import torch

    network: Any = model.model
    ids = torch.zeros((1, min(_READ, model.max_context)), dtype=torch.long, device=network.device)
    taken = 0.0
    with torch.no_grad(), quiet():
        for _ in range(2):
            start = time.perf_counter()
            network(ids, use_cache=False).logits[0, -1, 0].item()
            taken = time.perf_counter() - start
    return taken / int(ids.shape[1])


def expect(
    progress: Progress | None, model: Loaded, tokens: Sequence[float], total: int, workers: int = 1
) -> None:
    """Tell a progress about how long work takes, if it can be told.

    Parameters
    ----------
    progress : callable
        One that can be told has a method ``expect(seconds)``.
    model : Loaded
    tokens : sequence of float
        That the model reads or writes, of each item that is still to be done.
    total : int
        All items, those included that are done already.
    workers : int
        Processes that compute side by side, as fast as this one.
    """
    told = getattr(progress, "expect", None)
    if progress is None or told is None or not tokens:
        return
    progress(0, total, "")
    told(seconds_a_token(model) * sum(tokens) / workers)
