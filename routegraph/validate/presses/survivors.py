"""What any kvpress press keeps of a context, at several ratios."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.arrays import Array, opened_arrays
from routegraph.files import atomic_open
from routegraph.survival import Survival, check_ratios
from routegraph.validate.models.attention import check_attention, seen_rows
from routegraph.validate.models.families import family_of
from routegraph.validate.models.load import Loaded
from routegraph.validate.presses import prefill, reference
from routegraph.validate.presses.prefill import one_context
from routegraph.validate.presses.reference import REFERENCE_RATIOS

Kept = NDArray[np.bool_]


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
            with opened_arrays(path, "survivors file") as stored:
                ratios = stored.read("ratios", Array("f", (None,), 0, 1, rising=False))
                shape = tuple(stored.read("shape", Array("iu", (4,), 1, 2**31)).tolist())
                bits = stored.read("kept", Array("u", (-(-math.prod(shape) // 8),), 0, 255))
                if shape[0] != len(ratios) or (np.diff(ratios) < 0).any():
                    raise ValueError("its ratios do not fit its kept sets")
                kept = np.unpackbits(bits, count=math.prod(shape)).astype(bool).reshape(shape)
                press, source = (str(stored.read(name, Array("U", ()))) for name in ("press", "source"))
                return Survivors(press, ratios, kept, source)
        except ValueError as error:
            raise ValueError(f"{str(path)!r} is no survivors file, or is damaged") from error


def survivors(
    model: Any, prompt: Any, press_factory: Callable[[float], Any], ratios: Sequence[float] = REFERENCE_RATIOS
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
    with prefill.plain_errors(press_factory):
        made = [press_factory(float(ratio)) for ratio in asked]
    if all(reference.only_compresses(press) for press in made):
        kept, source = reference.kept_in_one_prefill(network, ids, made), "one prefill"
    else:
        kept = np.stack([reference.reference_kept(network, ids, press) for press in made])
        source = "a run for each ratio"
    kept = _within_windows(network.config, kept)
    return Survivors(type(made[0]).__name__, asked, kept, source)


def _within_windows(config: Any, kept: Kept) -> Kept:
    """Return kept sets without what the first query after the context does not see, and with the layers spared."""
    family = family_of(config)
    if family is None or not any(windows := family.windows(config)):
        return kept
    spared = np.array(windows, dtype=bool) & family.spares_local
    return (kept | spared[:, None, None]) & seen_rows(windows, kept.shape[-1])[:, None]


def _ids(model: Any, prompt: Any) -> Any:
    """Return the token ids [1, n] of a prompt, a text, or what is token ids already."""
    text = getattr(prompt, "context", prompt)
    if not isinstance(text, str):
        return one_context(prompt)
    if not isinstance(model, Loaded):
        raise ValueError("a text needs the tokenizer of a Loaded model; load the model, or pass token ids")
    return one_context(model.tokenizer(text, return_tensors="pt"))
