"""The output matrix of a model, read row by row: torch copies it for a batch of rows that is not flat."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def flat_head(network: Any) -> Iterator[None]:
    """Let a model multiply the states it keeps as one flat matrix by its vocabulary, whatever their shape.

    The last rows of a batch are a strided view, and with gradients any three-dimensional input is one: of these torch
    multiplies each row by a copy of the whole vocabulary matrix, many times slower than all the rest where that is
    large.
    """
    shapes: list[Any] = []

    def flatten(_module: Any, inputs: Any) -> tuple[Any]:
        shapes.append(inputs[0].shape[:-1])
        return (inputs[0].reshape(-1, inputs[0].shape[-1]),)

    def restore(_module: Any, _inputs: Any, output: Any) -> Any:
        return output.unflatten(0, shapes.pop())

    head = network.get_output_embeddings()
    with head.register_forward_pre_hook(flatten), head.register_forward_hook(restore):
        yield
