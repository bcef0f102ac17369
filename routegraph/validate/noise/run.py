"""How far few bits move the logits of a real model's questions, and how much attention, with and without eviction.

One prefill a prompt, and one pass of its question over the whole cache for the queries; nothing is decoded. Of every
query head, the error of its logits with the context's rows is read off the rounded keys. Its standard deviation over
the rows is the head's *logit noise*: what all rows share cancels in the softmax.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routegraph.files import digest
from routegraph.kernels.noise import noisy_rows
from routegraph.validate.measure.item import Item, evicted, read_items
from routegraph.validate.models.attention import attention_of
from routegraph.validate.models.families import rotated_queries
from routegraph.validate.models.load import Loaded, load
from routegraph.validate.models.sources import Progress
from routegraph.validate.noise.result import LogitNoise
from routegraph.validate.plan import Plan
from routegraph.validate.predict.reads import run_after
from routegraph.validate.presses import prefill
from routegraph.validate.prompts.prompt import Prompt
from routegraph.validate.quantise.precision import Precision
from routegraph.validate.quantise.rotation import rotations_of
from routegraph.validate.quantise.rows import rounded_cache

Floats = NDArray[np.float64]

#: Settings of a plan that nothing here depends on, or that are told otherwise.
UNUSED = frozenset(("policies", "ratios", "grader", "max_new_tokens", "stop"))


def logit_noise(
    model: Any,
    prompts: Sequence[Prompt],
    bits: Sequence[str],
    *,
    policy: str = "topk",
    ratios: Sequence[float] = (),
    progress: Progress | None = None,
    **options: Any,
) -> LogitNoise:
    """Measure the logit noise of precisions, and how much attention they move, alone and with eviction.

    Parameters
    ----------
    model : Loaded, str or Path
        Whatever `routegraph.validate.models.load.load` takes.
    prompts : sequence of Prompt
        With a question or an answer prefix.
    bits : sequence of str
        Names of precisions, see `Precision.named`; the cache as it is comes first in any case.
    policy : str
        See `Method.named`.
    ratios : sequence of float
        Compression ratios in [0, 1) beside 0.
    progress : callable, optional
        Called as ``progress(done, total, label)``.
    **options
        Of `Plan`: how prompts are asked, chunk_length, seed.

    Raises
    ------
    ValueError
        If bits, a policy or a ratio are unknown, or no prompt can be asked.
    """
    plan = Plan([policy], [0.0, *ratios], **options)
    named = {Precision.named(one).name: Precision.named(one) for one in bits}
    if not named:
        raise ValueError("name at least one number of bits")
    model = load(model, progress=progress)
    items, _ = read_items(model, prompts, plan)
    told = []
    for done, item in enumerate(items):
        if progress:
            progress(done, len(items), item.prompt.id)
        told.append(_of_item(model, item, plan, named))
    if progress:
        progress(len(items), len(items), "done")
    settings = {
        **{name: value for name, value in plan.settings(model).items() if name not in UNUSED},
        "policy": plan.policy_names[0],
        "prompts": len(items),
    }
    noise, spread, astray, moved, simulated = (np.stack(part) for part in zip(*told, strict=True))
    ids = tuple(item.prompt.id for item in items)
    return LogitNoise(
        settings, ids, ("", *named), np.array(plan.ratios), noise, spread, astray, moved, simulated
    )


def _of_item(
    model: Loaded, item: Item, plan: Plan, named: Mapping[str, Precision]
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Return noise, spread, astray, moved and simulated of a prompt; see `LogitNoise`."""
    cache, (eviction,) = evicted(model, item, plan.seed)
    n = len(item.asked.context)
    kept = np.stack([s.alive(r) for s, r in zip(eviction.survivals(plan.ratios), plan.ratios, strict=True)])
    queries = question_queries(model, cache, item.asked.question)
    full = context_logits(model, queries, [layer.keys[0] for layer in cache.layers])
    seen = np.isfinite(full)
    whole = _softmax(full)
    turned = rotations_of(model.model, n)
    shape = full.shape[:2]  # layers, query heads
    noise = np.zeros((1 + len(named), *shape))
    astray, moved, simulated = (np.zeros((1 + len(named), len(plan.ratios))) for _ in range(3))
    group = model.n_query_heads // model.n_heads
    for place, alive in enumerate(kept):
        by_head = np.repeat(alive, group, axis=1)[:, :, None] & seen
        for which, one in enumerate((None, *named.values())):
            logits = full
            if one is not None:
                read = rounded_cache(cache, one, alive[None], turned)
                logits = context_logits(model, queries, [layer.keys[0] for layer in read.layers])
                if place == 0:
                    noise[which] = _spread(np.where(seen, logits - full, np.nan))
            after = _softmax(np.where(by_head, logits, -np.inf))
            moved[which, place] = _moved(whole, after)
            astray[which, place] = float((after.argmax(-1) != whole.argmax(-1)).mean())
            sequence = np.random.SeedSequence([plan.seed, int(digest(item.prompt.id), 16), which, place])
            simulated[which, place] = _simulated(whole, noise[which], by_head, sequence)
    return noise, _spread(np.where(seen, full, np.nan)), astray, moved, simulated


def question_queries(model: Loaded, cache: Any, question: NDArray[np.int64]) -> list[Any]:
    """Return the queries of a question's rows in every layer, as they read a whole cache.

    float tensors [n_query_heads, n_question, head_dim], after rotation; the cache is as before afterwards.
    """
    import torch

    found: list[Any] = []

    def note(module: Any, _args: Any, kwargs: Mapping[str, Any]) -> None:
        found.append(rotated_queries(module, kwargs))

    with torch.no_grad(), ExitStack() as stack:
        for module in prefill.attention_modules(model.model):
            stack.enter_context(module.register_forward_pre_hook(note, with_kwargs=True))
        run_after(model.model.base_model, cache, question, np.zeros(1, dtype=np.int64))
    return found


def context_logits(model: Loaded, queries: Sequence[Any], keys: Sequence[Any]) -> Floats:
    """Return the logits of a question's rows with a context's.

    float64[n_layers, n_query_heads, n_question, n_context]; keys : float tensor [n_heads, n_context, head_dim] of every
    layer. Minus infinity where a sliding window hides a row.
    """
    import torch

    found = []
    for module, query, key in zip(prefill.attention_modules(model.model), queries, keys, strict=True):
        attention, n = attention_of(module), key.shape[1]
        grouped = query.double().reshape(key.shape[0], -1, query.shape[-1])
        logits = attention.capped(grouped @ key.double().transpose(1, 2)).reshape(*query.shape[:2], n)
        places = torch.arange(n + query.shape[1], device=key.device)
        hidden = attention.hidden(places[n:], places[:n])
        found.append(logits.masked_fill(hidden, -torch.inf).cpu().numpy())
    return np.stack(found)


def _softmax(logits: Floats) -> Floats:
    top = logits.max(axis=-1, keepdims=True)
    made = np.exp(logits - np.where(np.isfinite(top), top, 0.0))
    return np.asarray(made / np.maximum(made.sum(axis=-1, keepdims=True), np.finfo(float).tiny))


def _spread(values: Floats) -> Floats:
    """Return the standard deviation over rows, root mean square over a question's rows, float64[layers, heads]."""
    return np.asarray(np.sqrt(np.nanmean(np.nanvar(values, axis=-1), axis=-1)))


def _moved(before: Floats, after: Floats) -> float:
    """Return the share of attention that is read elsewhere, mean over layers, heads and the question's rows."""
    elsewhere = abs(after - before).sum(axis=-1) + before.sum(axis=-1) - after.sum(axis=-1)
    return float(elsewhere.mean() / 2)


def _simulated(
    whole: Floats, noise: Floats, alive: NDArray[np.bool_], sequence: np.random.SeedSequence
) -> float:
    """Return the share of attention that moves under Gaussian noise of each head's size and eviction."""
    n = whole.shape[-1]
    rows = whole.reshape(-1, n)
    indptr = np.arange(len(rows) + 1, dtype=np.int64) * n
    own = np.ascontiguousarray(np.broadcast_to(noise[..., None], whole.shape[:3])).ravel()
    key = sequence.generate_state(1, np.uint64)[0]
    _, moved, _ = noisy_rows(indptr, rows.ravel(), own, np.ascontiguousarray(alive).ravel(), key)
    return float(moved.mean())
