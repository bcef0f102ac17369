"""What a reply rests on, and how much of it an eviction takes: the predictor of which answers break.

Three shares, each from 0 (nothing is lost) to 1 (all is), of what the reply rests on with the full cache:

- of its *routes*: what the slots of the context give to its rows, over all layers; of the row that loses most;
- of its *sources*: its attention to the places where the context says what it says;
- of its *dependence*: what it depends on at its own critical point.

`support_lost` is their mean. Nothing in it is fitted, and nobody tells it the right answer or where that stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.models.load import Loaded
from routegraph.validate.predict.dependence import Dependence, read_dependence
from routegraph.validate.predict.reads import Flow, read_flow

Ids = NDArray[np.int64]
Alive = NDArray[np.bool_]

#: Tokens of the context that count as sources of a reply whose words it does not hold: those that give it most.
_SOURCES = 10
#: Variants whose shares are worked out at once.
_BLOCK = 16


@dataclass(frozen=True, eq=False)
class Support:
    """What one reply rests on.

    Attributes
    ----------
    routes : float32[n_rows, n_layers, n_heads, n_context]
        What each slot gives to each row that the reply's tokens are read from.
    sources : float32[n_layers, n_heads, n_context]
        Attention of these rows to the tokens that the reply is a copy of; 0 elsewhere.
    dependence : float32[n_layers, n_heads, n_context] or None
        Of what each slot gives at the reply's critical point, the positive part; None where that was not read.
    """

    routes: NDArray[np.float32]
    sources: NDArray[np.float32]
    dependence: NDArray[np.float32] | None

    def shares(self, alive: Alive) -> NDArray[np.float64]:
        """Return the shares lost of routes, sources and, where that was read, dependence.

        Parameters
        ----------
        alive : bool[n_variants, n_layers, n_heads, n_context]
            Which slots survive.

        Returns
        -------
        float64[3, n_variants] or float64[2, n_variants]
            In [0, 1]; of nothing, nothing can be lost.
        """
        further = [self.sources] if self.dependence is None else [self.sources, self.dependence]
        parts = np.concatenate([self.routes, further])
        given = parts.reshape(len(parts), -1).astype(float)
        left = np.concatenate(
            [given @ block.reshape(len(block), -1).T for block in _blocks(alive)], axis=1
        )  # [len(parts), n_variants]
        whole = given.sum(axis=1, keepdims=True)
        lost = np.clip(1 - np.divide(left, whole, out=np.ones_like(left), where=whole > 0), 0.0, 1.0)
        return np.concatenate([lost[: len(self.routes)].max(axis=0, keepdims=True), lost[len(self.routes) :]])

    def lost(self, alive: Alive) -> NDArray[np.float64]:
        """Return `support_lost`, the mean of the shares, float64[n_variants]; `alive` as in `shares`."""
        return np.asarray(self.shares(alive).mean(axis=0))


def support_of(reads: Flow, dependence: Dependence | None, sources: Ids) -> Support:
    """Return what a reply rests on.

    Parameters
    ----------
    reads : Flow
        By squared lengths (``energy=True``).
    dependence : Dependence or None
    sources : int64[n]
        Tokens of the context where the reply's words stand; empty: the ten that give the reply most.
    """
    if not len(sources):
        sources = flow_sources(reads)
    read = np.zeros_like(reads.read)
    read[..., sources] = reads.read[..., sources]
    return Support(reads.flow, read, None if dependence is None else np.maximum(dependence.parts, 0.0))


def read_support(
    model: Loaded, cache: Any, question: Ids, reply: Ids, sources: Ids, with_dependence: bool = True
) -> Support:
    """Run question and reply over a context's full cache, and return what the reply rests on.

    Parameters
    ----------
    model : Loaded
    cache : cache
        Of the context, as `prefill.prefill` returns it; it is as before afterwards.
    question, reply : int64[...]
        Tokens after the context; of the reply, those up to the end of its first statement: see `stated`.
    sources : int64[n]
        See `support_of`, and `sources_of` for where they come from.
    with_dependence : bool
        Of the three, that takes most of the time.

    Raises
    ------
    ValueError
        If question or reply has no tokens.
    """
    reads = read_flow(model, cache, question, reply, energy=True)
    dependence = read_dependence(model, cache, question, reply) if with_dependence else None
    return support_of(reads, dependence, sources)


def flow_sources(reads: Flow, n: int = _SOURCES) -> Ids:
    """Return the `n` tokens of the context that give the reply most, sorted."""
    given = reads.flow.sum(axis=(0, 1, 2))
    return np.sort(np.argsort(-given, kind="stable")[:n]).astype(np.int64)


def _blocks(alive: Alive) -> list[Alive]:
    return [alive[start : start + _BLOCK] for start in range(0, len(alive), _BLOCK)] or [alive]
