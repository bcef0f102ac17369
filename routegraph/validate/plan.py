"""What is asked of every prompt: which policies at which ratios, and how. `measure` and `probe` share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from routegraph.survival import check_ratios
from routegraph.validate.eviction import Method, tables_of
from routegraph.validate.models.load import Loaded, fingerprint
from routegraph.validate.presses.scorers import CHUNK_LENGTH, checked_tables

MAX_NEW_TOKENS = 12


@dataclass(frozen=True)
class Plan:
    """What is asked of every prompt.

    Attributes
    ----------
    policy_names : tuple of str
        See `Method.named`. A policy that draws does so anew for every item, from `seed` and the item's id.
    ratios : tuple of float
        Sorted compression ratios in [0, 1).
    question_aware : bool
        Score with the question in the context (the paper's AWR) instead of before it is known (AGN).
    max_new_tokens : int
        Length of the longest reply.
    chunk_length : int
        For policies that cut chunks; a few rows less for an item whose last chunk could not be scored.
    seed : int

    Raises
    ------
    ValueError
        If a policy or a ratio is unknown or missing, or a number out of range.
    """

    policy_names: Sequence[str]
    ratios: Sequence[float]
    question_aware: bool = False
    max_new_tokens: int = MAX_NEW_TOKENS
    chunk_length: int = CHUNK_LENGTH
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy_names", tuple(dict.fromkeys(self.policy_names)))
        object.__setattr__(self, "ratios", tuple(sorted(set(check_ratios(list(self.ratios))))))
        if not self.policy_names:
            raise ValueError("at least one policy is needed")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        checked_tables(tables_of(self.methods()), self.chunk_length)

    def methods(self, chunk_length: int | None = None) -> tuple[Method, ...]:
        """Return the policies with the scores that each goes by."""
        return tuple(Method.named(name, chunk_length or self.chunk_length) for name in self.policy_names)

    def settings(self, model: Loaded) -> dict[str, Any]:
        """Return what a result depends on, as JSON-ready values."""
        return {
            "model": model.name,
            "weights": fingerprint(model),
            "policies": list(self.policy_names),
            "ratios": list(self.ratios),
            "question_aware": self.question_aware,
            "max_new_tokens": self.max_new_tokens,
            "chunk_length": self.chunk_length,
            "seed": self.seed,
        }
