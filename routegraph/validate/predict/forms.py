"""Numbers that may tell which answers break: functions of what the model's own reply reads, and of what survives.

Each takes `ReplyReads` and the surviving slots, bool[n_layers, n_heads, n_context], and returns one number, the larger
the likelier the reply is to break. None is told the right answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.predict.leads import Leads
from routegraph.validate.predict.reads import ReplyReads

Alive = NDArray[np.bool_]
Positions = NDArray[np.int64]


def flow_lost(reads: ReplyReads, alive: Alive) -> NDArray[np.float64]:
    """Return the share of what each reply row is given by the context that lies on dead slots, float64[n_rows]."""
    return _lost(reads.flow, alive)


def worst(reads: ReplyReads, alive: Alive) -> float:
    """Return the share lost of the reply row that loses most."""
    return float(flow_lost(reads, alive).max())


def mean(reads: ReplyReads, alive: Alive) -> float:
    """Return the share lost, mean over the reply's rows."""
    return float(flow_lost(reads, alive).mean())


def first(reads: ReplyReads, alive: Alive) -> float:
    """Return the share lost of the row that the first token is read from."""
    return float(flow_lost(reads, alive)[0])


def anchored(lost: NDArray[np.float64], full: NDArray[np.float64], empty: NDArray[np.float64]) -> float:
    """Return how likely a reply is to break: the smallest log-odds of its tokens, interpolated, with the sign turned.

    A token whose row has lost nothing has the log-odds it has with the full cache, one whose row has lost all those
    with an empty one, and in between it lies on the line: below 0 each token is still the likelier one.

    Parameters
    ----------
    lost : float64[n_rows]
        Share of what each row is given that is lost, in [0, 1].
    full, empty : float64[n_rows]
        Log-odds of the reply's tokens with the full cache, and with nothing of the context but its first rows.
    """
    return -float(((1 - lost) * full + lost * empty).min())


def log_odds(log_probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log p - log(1 - p) of logarithms of probabilities; those of 1 as of the nearest smaller number."""
    likely = np.minimum(log_probabilities, -1e-12)
    return np.asarray(likely - np.log(-np.expm1(likely)))


def margins_left(reads: ReplyReads, alive: Alive) -> NDArray[np.float64]:
    """Return the margin of every reply row as direct attribution has it after an eviction, float64[n_rows].

    Every head is renormalised over what is left, and what it adds goes straight to the last state, whose norm is held
    fixed: what later layers make of the change is left out.
    """
    there = _by_query_head(reads, alive)
    before = reads.added.sum(axis=3, dtype=float) + reads.rest_added
    kept = np.einsum("rlhj,lhj->rlh", reads.attention, there, dtype=float) + reads.rest
    after = np.einsum("rlhj,lhj->rlh", reads.added, there, dtype=float) + reads.rest_added
    change = after / np.maximum(kept, 1e-30) - before
    return np.asarray(reads.margins + change.sum(axis=(1, 2)))


def margin_left(reads: ReplyReads, alive: Alive) -> float:
    """Return the smallest margin that direct attribution leaves, with its sign turned."""
    return -float(margins_left(reads, alive).min())


def lead_lost(leads: Leads, alive: Alive) -> float:
    """Return the share of what speaks for a token, the slots' positive parts, that is lost: of the worst token."""
    return float(_lost(np.maximum(leads.parts, 0.0), alive).max())


def attention_lost(reads: ReplyReads, alive: Alive) -> float:
    """Return the share of the attention to the context that lay on dead slots, of the row that loses most."""
    return float(_lost(reads.attention, _by_query_head(reads, alive)).max())


def sources_ger(alive: Alive, sources: Positions) -> float:
    """Return GER by layer of some tokens: the share gone from all heads of a layer, mean over layers; 0 of none."""
    return float((~alive[..., sources].any(axis=1)).mean()) if len(sources) else 0.0


def sources_lost(reads: ReplyReads, alive: Alive, sources: Positions) -> float:
    """Return the share of the reply rows' attention to some tokens that lay on dead slots; 0 of none."""
    read = reads.attention[..., sources].sum(axis=0, keepdims=True)
    return float(_lost(read, _by_query_head(reads, alive)[..., sources])[0]) if read.any() else 0.0


def _lost(given: NDArray[np.float32], alive: Alive) -> NDArray[np.float64]:
    """Return the share on dead slots of what each row is given, [n_rows, layers, heads, rows]; 1 of nothing."""
    whole = given.sum(axis=(1, 2, 3), dtype=float)
    left = np.einsum("rlhj,lhj->r", given, alive, dtype=float)
    return np.asarray(np.clip(1 - left / np.maximum(whole, 1e-30), 0.0, 1.0))


def _by_query_head(reads: ReplyReads, alive: Alive) -> Alive:
    """Return what survives for every query head; those of a group lie side by side."""
    return np.repeat(alive, reads.attention.shape[2] // alive.shape[1], axis=1)
