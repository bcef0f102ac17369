"""Rotary positions of a cache's rows: turned back to where none were, and turned again.

A row of a prefilled cache stands at a known position, so the rotation that its key went through is known, and has an
inverse. It is assumed that channels c and c + w/2 of the first w turn together, as in every registered family, that
rows 0 to n - 1 are the context's tokens in their order, and that a key is rotated last of all (norms come before).
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Rotation:
    """Cosines and sines of rows.

    Attributes
    ----------
    cos, sin : float tensor [..., n_rows, width]
        As the model multiplies by them, both halves of the width alike; a head's channels beyond the width stay.
    """

    cos: Any
    sin: Any

    def at(self, rows: Any) -> Rotation:
        """Return those of some rows, int64 tensor [...]."""
        return Rotation(self.cos[rows], self.sin[rows])

    def turned(self, keys: Any) -> Any:
        """Return keys [..., n_rows, head_dim] with their positions."""
        moving, still = self._parts(keys)
        return _joined(moving * self.cos + _half_turned(moving) * self.sin, still)

    def back(self, keys: Any) -> Any:
        """Return keys [..., n_rows, head_dim] without positions: the inverse of `turned`, whatever the scale."""
        moving, still = self._parts(keys)
        size = self.cos.square() + self.sin.square()  # not 1 where a model scales what it rotates (YaRN)
        return _joined((moving * self.cos - _half_turned(moving) * self.sin) / size, still)

    def _parts(self, keys: Any) -> tuple[Any, Any]:
        width = self.cos.shape[-1]
        return keys[..., :width], keys[..., width:]


def rotations_of(network: Any, n: int) -> tuple[Rotation | None, ...]:
    """Return the rotation of the first `n` rows in every layer of a transformers model; None: it rotates nothing."""
    import torch

    embedding = network.base_model.rotary_emb
    by_kind = "layer_type" in inspect.signature(embedding.forward).parameters  # Gemma-3
    like = torch.zeros(1, dtype=network.dtype, device=network.device)
    positions = torch.arange(n, device=network.device)[None]
    found: list[Rotation | None] = []
    for layer in network.base_model.layers:
        module = layer.self_attn
        if not getattr(module, "use_rope", True):  # SmolLM3
            found.append(None)
            continue
        more = {"layer_type": module.layer_type} if by_kind else {}
        with torch.no_grad():
            cos, sin = embedding(like, positions, **more)
        found.append(Rotation(cos[0].double(), sin[0].double()))
    return tuple(found)


def _half_turned(x: Any) -> Any:
    import torch

    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def _joined(moved: Any, still: Any) -> Any:
    import torch

    return torch.cat([moved, still], dim=-1)
