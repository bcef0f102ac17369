"""The press of kvpress that evicts as a method of ours does: what is deployed where a method was measured."""

from __future__ import annotations

from typing import Any

from routegraph.policies.base import declared
from routegraph.survival import check_ratio
from routegraph.validate.presses.kvpress_fixes import kvpress
from routegraph.validate.presses.methods import DEFAULT_SCORER, Named, resolve, vocabulary
from routegraph.validate.presses.reference import reference_press
from routegraph.validate.presses.scorers import CHUNK_LENGTH, SCORERS

#: Cuts that go by no scores, and the scorer whose press keeps the same rows.
_BY_SCORER = {"streaming": "streaming_llm"}
#: Methods that are one press of kvpress's.
_WHOLE = {"pyramidkv": "PyramidKVPress"}


def is_deployable(found: Named) -> bool:
    """Return whether kvpress has a press that keeps the same rows as a method."""
    return (
        found.name in _WHOLE
        or found.cut in _BY_SCORER
        or (declared(found.cut).press is not None and declared(found.cut).scores is not None)
    )


def check_deployable(name: str) -> None:
    """Raise ValueError, with the methods that have a press, where kvpress has none that does what a method does."""
    if not is_deployable(resolve(name)):
        choices = ", ".join(one.name for one in vocabulary() if is_deployable(one))
        raise ValueError(
            f"policy {name!r} has no press of kvpress that keeps the same rows; there are presses for: {choices}, and "
            "for topk, adakv, chunk or chunkkv @SCORER"
        )


def deployed_press(name: str, ratio: float, chunk_length: int = CHUNK_LENGTH) -> Any:
    """Return a fresh press of kvpress that evicts as a method does.

    Parameters
    ----------
    name : str
        See `resolve`.
    ratio : float
        Compression ratio in [0, 1).
    chunk_length : int
        For methods whose chunks are scored by themselves.

    Raises
    ------
    ValueError
        If the method is unknown or kvpress has no such press, or the ratio is not in [0, 1).
    """
    check_deployable(name)
    found = resolve(name)
    if found.name in _WHOLE:
        return _untied(getattr(kvpress(), _WHOLE[found.name])(compression_ratio=check_ratio(ratio)))
    if found.cut in _BY_SCORER:
        return reference_press("topk", ratio, scores=_untied(SCORERS[_BY_SCORER[found.cut]]()))
    scores = SCORERS[found.scorer or DEFAULT_SCORER]()
    if declared(found.cut).ordinal:  # others need the scores themselves
        scores = _untied(scores)
    return reference_press(found.cut, ratio, chunk_length, scores)


def _untied(press: Any) -> Any:
    """Let a press score rows by their place in the order of its scores, and return it.

    Which of equal scores goes first torch leaves open; here it is the later head and position, as in `eviction_order`.
    So a press keeps the very rows that were measured, also where it protects more rows than it keeps.
    """
    import torch

    plain = press.score

    def score(*arguments: Any, **named: Any) -> Any:
        found = plain(*arguments, **named)
        flat = found.reshape(len(found), -1)
        order = flat.argsort(dim=-1, descending=True, stable=True)
        places = torch.empty_like(order).scatter_(
            1, order, torch.arange(flat.shape[1], 0, -1, device=flat.device).expand_as(order)
        )
        return places.reshape(found.shape).float()

    press.score = score
    return press


def masks(press: Any) -> bool:
    """Return whether a press masks rows, which are left out by kvpress's attention functions alone."""
    return isinstance(press, kvpress().AdaKVPress)
