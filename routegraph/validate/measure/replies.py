"""Replies under every kept set, with the context's cache as it is or at fewer bits.

With bits: the context is prefilled, and its rows are scored, as without; the policy says which rows are kept; these
are rounded, head by head, and question and reply attend to the rounded ones. Their own rows are never rounded. The
first reply is the reference: nothing removed, the cache as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.validate.decoding.decode import Decoded, decode
from routegraph.validate.models.load import Loaded
from routegraph.validate.plan import Measuring
from routegraph.validate.quantise.rotation import rotations_of
from routegraph.validate.quantise.rows import rounded_cache
from routegraph.validate.quantise.size import bytes_of


@dataclass(frozen=True)
class Replies:
    """What was replied, policies outermost.

    Attributes
    ----------
    texts : list of str
    cut : list of int
        1: still going on at the greatest length.
    bytes : list of int
        That the context's cache takes; empty where there are no bits.
    """

    texts: list[str]
    cut: list[int]
    bytes: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, decoded: Decoded, which: NDArray[np.int64]) -> Replies:
        """Return the replies of variants, by number."""
        return cls([decoded.texts[one] for one in which], [int(decoded.cut[one]) for one in which])


def replied(
    model: Loaded,
    cache: Any,
    question: NDArray[np.int64],
    distinct: NDArray[np.bool_],
    which: NDArray[np.int64],
    plan: Measuring,
) -> Replies:
    """Return the reference's reply, and behind it those at every ratio with bits, once for every policy.

    Parameters
    ----------
    model : Loaded
    cache : cache
        Of the context, as it is.
    question : int64[n_question]
    distinct : bool[n_variants, n_layers, n_kv_heads, n_context]
        Kept sets, the first of them everything that a full cache holds.
    which : int64[n_policies, n_ratios]
        Which of them it is.
    plan : Measuring
        With bits.
    """
    precision = plan.precision
    if precision is None:
        raise ValueError("no bits are asked for")
    ask = partial(
        decode, model, question=question, max_new_tokens=plan.max_new_tokens, n_logits=0, stop=plan.stop
    )
    full = distinct[which[0, :1]]  # at ratio 0
    before = ask(context=cache, kept=full)
    if precision.by_row:  # then all variants share one cache
        read: dict[str, Any] = {"context": rounded_cache(cache, precision, distinct)}
    else:
        latent = precision.layout.latent
        turned = rotations_of(model.model, distinct.shape[3]) if latent else None
        read = {
            "context": cache,
            "read_as": lambda one, kept: rounded_cache(one, precision, kept, turned),
        }
    after = ask(kept=distinct, guesses=before.token_ids, **read)
    places = np.insert(which + 1, 0, 0, axis=1).ravel()
    texts = (*before.texts, *after.texts)
    cut = np.concatenate([before.cut, after.cut])
    taken = bytes_of(full, model.head_dim) + bytes_of(distinct, model.head_dim, precision)
    return Replies(
        [texts[one] for one in places], [int(cut[one]) for one in places], [taken[one] for one in places]
    )
