"""What kvpress really keeps: as survivors of any press, and beside what our policies keep, slot by slot.

Real differences are told from ties, which ``torch.topk`` breaks arbitrarily.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph import policies
from routegraph.files import atomic_open
from routegraph.survival import Survival, check_ratios
from routegraph.validate import presses
from routegraph.validate.checks import check_attention, one_context
from routegraph.validate.models import Loaded

Kept = NDArray[np.bool_]

#: Policies that kvpress has, too.
POLICIES = ("topk", "adakv", "chunk")
RATIOS = (0.3, 0.5, 0.7, 0.9, 0.95)


@dataclass(frozen=True, eq=False)
class Survivors:
    """What a press keeps of one context at several ratios.

    Attributes
    ----------
    press : str
        Class of the press.
    ratios : float64[n_ratios]
        Sorted compression ratios.
    kept : bool[n_ratios, n_layers, n_kv_heads, n]
        Which slots are alive.
    source : {"one prefill", "a run for each ratio"}
        How many runs of the model they come from.
    """

    press: str
    ratios: NDArray[np.float64]
    kept: Kept
    source: str

    @property
    def nested(self) -> bool:
        """Whether nothing that is gone at one of the ratios is back at a higher one."""
        return not (self.kept[1:] & ~self.kept[:-1]).any()

    @property
    def statement(self) -> str:
        """What this is, in one line: "nested, from one prefill", "grid of kept sets, from ..."."""
        return f"{'nested' if self.nested else 'grid of kept sets'}, from {self.source}"

    @property
    def survival(self) -> Survival:
        """The kept sets as one Survival, which steps at the ratios that were asked and holds there only.

        Raises
        ------
        ValueError
            If they are not nested.
        """
        if not self.nested:
            raise ValueError(
                f"kept sets of {self.press} are not nested over these ratios; take them from `kept`"
            )
        return Survival(1 + self.kept.sum(axis=0), self.ratios)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ratios, kept sets and the statement to one compressed file, atomically."""
        with atomic_open(path) as stream:
            np.savez_compressed(
                stream,
                press=self.press,
                ratios=self.ratios,
                kept=np.packbits(self.kept),
                shape=self.kept.shape,
                source=self.source,
                statement=self.statement,
            )

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Survivors:
        """Read what `save` wrote; ValueError if the file is missing or something else."""
        if not Path(path).is_file():
            raise ValueError(f"no survivors file {str(path)!r}")
        try:
            with np.load(path, allow_pickle=False) as stored:
                shape = tuple(stored["shape"])
                kept = np.unpackbits(stored["kept"], count=int(np.prod(shape))).astype(bool).reshape(shape)
                return Survivors(str(stored["press"]), stored["ratios"], kept, str(stored["source"]))
        except Exception as error:  # zipfile, zlib and numpy each have errors of their own
            raise ValueError(f"{str(path)!r} is no survivors file, or is damaged") from error


def survivors(
    model: Any, prompt: Any, press_factory: Callable[[float], Any], ratios: Sequence[float] = RATIOS
) -> Survivors:
    """Ask any kvpress press what it keeps of one context at each ratio.

    Parameters
    ----------
    model : Loaded or transformers model
        With sdpa attention.
    prompt : Prompt, str, or int[1, n] tensor
        The context; token ids where the model is not a `Loaded`, which knows its tokenizer.
    press_factory : callable
        ``press_factory(ratio)`` returns a fresh press, such as ``lambda r: AdaKVPress(KnormPress(r))``.
    ratios : sequence of float
        Compression ratios in [0, 1).

    Returns
    -------
    Survivors
        From one prefill where the press only compresses after each layer, from a run for each ratio else; its
        `statement` says which, and whether the kept sets were found nested.

    Raises
    ------
    ValueError
        If a ratio is outside [0, 1), the model does not run sdpa attention, the context is padded or too short, or
        it cannot be told what the press keeps (it merges rows, evicts later, ...).
    """
    asked = np.unique(check_ratios(ratios))
    network = model.model if isinstance(model, Loaded) else model
    check_attention(network)
    ids = _ids(model, prompt)
    with presses.plain_errors(press_factory):
        made = [press_factory(float(ratio)) for ratio in asked]
    if all(presses.only_compresses(press) for press in made):
        kept, source = presses.kept_in_one_prefill(network, ids, made), "one prefill"
    else:
        kept = np.stack([presses.reference_kept(network, ids, press) for press in made])
        source = "a run for each ratio"
    return Survivors(type(made[0]).__name__, asked, kept, source)


def _ids(model: Any, prompt: Any) -> Any:
    """Return the token ids [1, n] of a prompt, a text, or what is token ids already."""
    text = getattr(prompt, "context", prompt)
    if not isinstance(text, str):
        return one_context(prompt)
    if not isinstance(model, Loaded):
        raise ValueError("a text needs the tokenizer of a Loaded model; load the model, or pass token ids")
    return one_context(model.tokenizer(text, return_tensors="pt"))


@dataclass(frozen=True)
class KeptComparison:
    """How two sets of kept rows differ.

    Attributes
    ----------
    slots, ties, mismatches : int
        Slots compared; slots that differ with the very score at which the cut fell, which the two sides
        broke differently; slots that differ otherwise.
    """

    slots: int
    ties: int
    mismatches: int


def compare_kept(
    ours: Kept, theirs: Kept, scores: NDArray[np.float32], groups: NDArray[np.int64]
) -> KeptComparison:
    """Compare two kept sets slot by slot.

    ``torch.topk`` breaks ties arbitrarily, so of rows with equal scores at the cut either may be kept, if
    only as many are. Whatever else differs is a mismatch.

    Parameters
    ----------
    ours, theirs : bool[n_layers, n_heads, n]
        The kept sets.
    scores : float32[n_layers, n_heads, n]
        What both were chosen by.
    groups : int64[n_layers, n_heads, n]
        Which slots compete for the same places: see `competitors`.
    """
    differs = ours != theirs
    ties = 0
    for group in np.unique(groups[differs]):
        inside = groups == group
        apart = differs & inside
        same_score = len(np.unique(scores[apart])) == 1
        if same_score and ours[inside].sum() == theirs[inside].sum():
            ties += int(apart.sum())
    return KeptComparison(slots=differs.size, ties=ties, mismatches=int(differs.sum()) - ties)


def competitors(policy: str, shape: tuple[int, int, int], chunk_length: int = 64) -> NDArray[np.int64]:
    """Return, for each slot, the group whose slots compete under a policy, int64[n_layers, n_heads, n].

    "adakv": all heads of a layer; "chunk": a chunk of a head; otherwise the rows of a head.
    """
    layer, head, row = np.indices(shape)
    if policy == "adakv":
        return np.asarray(layer)
    n_chunks = -(-shape[2] // chunk_length) if policy == "chunk" else 1
    chunk = row // chunk_length if policy == "chunk" else 0
    return np.asarray((layer * shape[1] + head) * n_chunks + chunk)


def compare_with_kvpress(
    model: Any,
    input_ids: Any,
    ratios: Sequence[float] = RATIOS,
    chunk_length: int = 64,
    scorer: str | None = None,
) -> list[tuple[str, float, KeptComparison]]:
    """Compare our policies with kvpress's presses on one context.

    Ours derive every ratio from the scores of one prefill; kvpress prunes in a run of its own for each.

    Parameters
    ----------
    model : transformers model
        With sdpa attention.
    input_ids : int[1, n] tensor
        The context.
    ratios : sequence of float
        Compression ratios.
    chunk_length : int
        For "chunk".
    scorer : str, optional
        Name of the scorer (see `presses.SCORERS`) that kvpress's presses use; by default its own
        ExpectedAttentionPress, which gives the same scores, more slowly.

    Returns
    -------
    list of (policy, ratio, KeptComparison)
    """
    tables = presses.prefill_scores(model, input_ids, presses.SCORERS["expected_attention"](), [chunk_length])
    rows = []
    for policy in POLICIES:
        scores = tables[chunk_length if policy == "chunk" else None]
        survival = policies.apply(
            policy, scores, **({"chunk_length": chunk_length} if policy == "chunk" else {})
        )
        groups = competitors(policy, scores.shape, chunk_length)
        for ratio in ratios:
            by = presses.SCORERS[scorer]() if scorer else None
            press = presses.reference_press(policy, ratio, chunk_length, by)
            theirs = presses.reference_kept(model, input_ids, press)
            rows.append((policy, ratio, compare_kept(survival.alive(ratio), theirs, scores, groups)))
    return rows
